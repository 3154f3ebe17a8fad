"""HTTP and WebSocket: parse, call one command, answer."""
