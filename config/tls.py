"""The TLS certificates that connections trust: the system's, or those that the environment names."""

import os
import ssl
from pathlib import Path

from askmill.config.proxies import Proxy
from askmill.config.settings import BadSetting

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
"""Read by httpx and `ssl`, in this order; the last only beside one of the others. `requests` has others."""


def uses_tls(base_url: str, proxy: Proxy | None) -> bool:
    """Whether requests to the address, or the way to its proxy, are encrypted."""
    return base_url.lower().startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))


def tls_context() -> ssl.SSLContext:
    """The context for connections to an API or a proxy.

    Raises:
        BadSetting: A variable names no readable certificates.
    """
    import httpx2  # noqa: PLC0415 -- a tenth of a second, which `check_certificates` does not need

    check_certificates()
    try:
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        set_ones = [name for name in VARIABLES if os.environ.get(name)]
        named = [name for name in set_ones if os.environ[name] in str(error)] or set_ones
        about = f"{named[0]} ({os.environ[named[0]]})" if named else "The system's certificates"
        raise BadSetting(f"{about} cannot be read: {error}. {_advice(named)}") from None


def check_certificates() -> None:
    """Raise BadSetting if a variable names a file or folder that is not there."""
    for name, kind, exists in (
        ("SSL_CERT_FILE", "file", Path.is_file),
        ("SSL_CERT_DIR", "folder", Path.is_dir),
    ):
        paths = [path for path in os.environ.get(name, "").split(os.pathsep) if path]
        paths = paths if name == "SSL_CERT_DIR" else paths and [os.environ[name]]
        missing = [path for path in paths if not exists(Path(path))]
        if missing:
            raise BadSetting(f"{name} names no {kind}: {missing[0]}. {_advice([name])}")


def _advice(named: list[str]) -> str:
    if not named:
        return "Install your system's CA certificates, or set SSL_CERT_FILE."
    if named[0] == "SSLKEYLOGFILE":
        return "Unset SSLKEYLOGFILE, or set it to a file that can be written."
    return f"Unset {named[0]}, or set it to certificates in PEM format: /etc/ssl/certs/ca-certificates.crt."
