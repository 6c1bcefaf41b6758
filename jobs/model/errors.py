"""The error classes of `askmill.errors`, re-exported for the modules of this package."""

from askmill.errors import (
    ApiUnavailable,
    AskmillError,
    Fault,
    InputFaults,
    Interrupted,
    KeyRefused,
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
    "KeyRefused",
    "LocalFault",
    "NotFound",
    "ProfileError",
    "RedisUnavailable",
    "Unavailable",
    "UsageError",
    "WriteFault",
]
