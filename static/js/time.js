// Times in words and digits. Milliseconds in, text out.

const CLOCK = new Intl.DateTimeFormat(undefined,
  { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const DAY = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** Hours, minutes and seconds of a moment, in the viewer's time zone. */
export function clockTime(moment) {
  return Number.isFinite(moment) ? CLOCK.format(moment) : "";
}

/** Day of the week, hours and minutes of a moment: for marks on a scale. */
export function dayTime(moment) {
  return Number.isFinite(moment) ? `${WEEKDAY.format(moment)} ${CLOCK.format(moment)}` : "";
}

/** Date and time of a moment, in the viewer's time zone. */
export function dateTime(moment) {
  return Number.isFinite(moment) ? `${DAY.format(moment)}, ${CLOCK.format(moment)}` : "";
}

/** A duration with its largest unit, or its two largest: 42 s, 7 min, 3 h 05 min, 12 d. */
export function age(duration) {
  const seconds = Math.max(0, Math.floor(duration / 1000));
  if (!Number.isFinite(seconds)) {
    return "";
  }
  if (seconds < 60) {
    return `${seconds} s`;
  }
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) {
    return `${minutes} min`;
  }
  const hours = Math.floor(minutes / 60);
  if (hours < 24) {
    return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  }
  const days = Math.floor(hours / 24);
  return days < 7 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** How long something took, with what matters of it: 0.14 s, 3.4 s, 42 s, 7 min. */
export function lasted(duration) {
  const seconds = duration / 1000;
  return seconds < 60 ? `${seconds.toFixed(seconds < 1 ? 2 : 1)} s` : age(duration);
}

/** What is left, to the second and never negative: 0:07, 12:00, 1:02:03. A begun second counts as whole. */
export function countdown(duration) {
  const seconds = Math.max(0, Math.ceil(duration / 1000));
  const two = value => String(value).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** A duration to be spoken: "30 seconds", "5 minutes". */
export function spoken(duration) {
  const seconds = Math.max(0, Math.ceil(duration / 1000));
  if (seconds < 120) {
    return seconds === 1 ? "1 second" : `${seconds} seconds`;
  }
  return `${Math.round(seconds / 60)} minutes`;
}
