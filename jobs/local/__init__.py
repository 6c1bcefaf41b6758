"""The embedded default: Redis, emulator and worker on this machine, each a process of its own.

    askmill run ──┐ shared lock          ┌▶ keeper ─▶ valkey-server    one per data directory,
    askmill status┼─▶ locks/redis.users  │                             kept while anybody holds the lock
    its worker ───┘   locks/emulator.users └▶ keeper ─▶ emulator

    askmill run ──stdin pipe──▶ worker      belongs to one command and ends with it

sharing.py counts who uses a service · keeper.py runs it as long as somebody does · redis_server.py and
emulator.py say how each is started and asked whether it is ready · children.py starts the worker ·
folders.py makes the folders, and sentences of what the file system refuses.
"""

from askmill.jobs.local.emulator_service import EmulatorService, emulator_process
from askmill.jobs.local.redis_service import RedisService, embedded_redis
from askmill.jobs.local.shared_service import ServiceLease
from askmill.jobs.local.worker_process import Child, interruptible, worker_process

__all__ = [
    "Child",
    "EmulatorService",
    "RedisService",
    "ServiceLease",
    "embedded_redis",
    "emulator_process",
    "interruptible",
    "worker_process",
]
