"""The errors a person can meet, by the name that our own modules know: they are those of `import askmill`."""

from askmill.errors import (
    ApiUnavailable,
    AskmillError,
    Fault,
    InputFaults,
    Interrupted,
    LocalFault,
    NotFound,
    ProfileError,
    RedisUnavailable,
    Unavailable,
    UsageError,
    WriteFault,
)

__all__ = [
    "ApiUnavailable",
    "AskmillError",
    "Fault",
    "InputFaults",
    "Interrupted",
    "LocalFault",
    "NotFound",
    "ProfileError",
    "RedisUnavailable",
    "Unavailable",
    "UsageError",
    "WriteFault",
]
