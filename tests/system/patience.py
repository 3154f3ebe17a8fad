"""How patient the service is in tests: as little as a simulated cloud needs."""

#: A cloud that works as a real one does, only sooner.
QUICK = {"schedule_seconds": 0.02, "boot_seconds": 0.1, "delete_seconds": 0.05, "stop_seconds": 0.03}
#: How often the service looks again, with real clouds' patience taken out.
PATIENCE = {
    "vmsvc.cloud.cache.server_cache._BUSY_SECONDS": 0.05,
    "vmsvc.service.acting.remove_server._RESEND_FAILED_SECONDS": 0.3,
    "vmsvc.service.reconciler._NOTICED_SECONDS": 0.3,
    "vmsvc.service.reconciler._ROUND_SECONDS": 0.3,
    "vmsvc.cloud.cache.host_cache._SERVICES_SECONDS": 0.3,
    "vmsvc.service.acting.await_build._HOST_SECONDS": 0.5,
    "vmsvc.service.runtime._RESTART_DELAYS": (0.1, 0.2, 0.5),
    "vmsvc.service.scheduling.scheduler.WAITING_SECONDS": 0.2,
    "vmsvc.scheduling.decide_all.WAITING_SECONDS": 0.2,
    "vmsvc.service.acting.create_server._FIND_DELAYS": (0.1, 0.2, 0.4, 0.8),
    "vmsvc.service.acting.create_server._RETRY_DELAYS": (0.05, 0.1, 0.2),
    "vmsvc.service.acting.worker._RETRY_DELAYS": (0.1, 0.3, 0.5),
}
CLOUD_OF_MODE = {"operator": ("sim-admin", "admin"), "tenant": ("sim-demo", "demo")}
