"""The embedded default: Redis, emulator and worker on this machine, each a process of its own.

    askmill run ──┐ shared lock            ┌▶ supervisor ─▶ valkey-server   one per data directory,
    askmill status┼─▶ locks/redis.users    │                                runs while the lock is held
    its worker ───┘   locks/emulator.users └▶ supervisor ─▶ emulator

    askmill run ──stdin pipe──▶ worker      belongs to one command and ends with it

shared_service.py    counts the users of a service by file locks
supervisor.py        runs one service while it has users
redis_service.py, emulator_service.py   how each is started and probed
worker_process.py    starts the worker of `run`
data_dir.py          creates folders and turns file system errors into messages
open_store.py        opens the store on the configured or the embedded Redis
"""

from askmill.jobs.local.emulator_service import EmulatorService, emulator_process
from askmill.jobs.local.redis_service import RedisService, embedded_redis
from askmill.jobs.local.shared_service import ServiceLease
from askmill.jobs.local.worker_process import Child, died_here, interruptible, worker_process

__all__ = [
    "Child",
    "EmulatorService",
    "RedisService",
    "ServiceLease",
    "died_here",
    "embedded_redis",
    "emulator_process",
    "interruptible",
    "worker_process",
]
