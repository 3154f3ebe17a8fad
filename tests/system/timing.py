"""A cloud that is quick, and a service that expects it."""

from vmsvc.domain.timing import Timing

#: A cloud that works as a real one does, only sooner.
QUICK = {"schedule_seconds": 0.02, "boot_seconds": 0.1, "delete_seconds": 0.05, "stop_seconds": 0.03}
#: The service's waits for such a cloud.
TIMING = Timing(
    compute_services=0.3,
    pass_while_waiting=0.2,
    retries=(0.1, 0.3, 0.5),
    build_host=0.5,
    find_server=(0.1, 0.2, 0.4, 0.8),
    create_retries=(0.05, 0.1, 0.2),
    resend_failed_delete=0.3,
    reconciler_round=0.3,
    reconciler_round_noticed=0.3,
    steady_capacity=0.4,
    search_lineages=0.5,
    search_ports=0.5,
    restart_loop=(0.1, 0.2, 0.5),
)
CLOUD_OF_MODE = {"operator": ("sim-admin", "admin"), "tenant": ("sim-demo", "demo")}
