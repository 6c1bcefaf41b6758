"""The proxy for a URL by the variables (case A2): the rule of the SDK's client, completed as in curl and Go."""

import base64

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from askmill.config.proxies import Proxy, is_excluded, no_proxy_variables, proxy_for
from askmill.config.settings import BadSetting
from askmill.jobs.openai_client.client import make_client

PROXY = "http://proxy.test:3128"
API = "https://api.test/v1"


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        ({"https_proxy": PROXY}, "https_proxy"),
        ({"Https_Proxy": PROXY}, "Https_Proxy"),
        ({"ALL_PROXY": PROXY}, "ALL_PROXY"),
        ({"all_proxy": PROXY}, "all_proxy"),
        ({"HTTP_PROXY": "http://other.test:1", "ALL_PROXY": PROXY}, "ALL_PROXY"),
        ({"HTTPS_PROXY": PROXY, "ALL_PROXY": "http://other.test:1"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://other.test:1", "https_proxy": PROXY}, "https_proxy"),
        ({"https_proxy": "", "all_proxy": PROXY}, "all_proxy"),
        ({"HTTPS_PROXY": "proxy.test:3128"}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": " http://proxy.test:3128/ "}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "HTTP://PROXY.test:3128"}, "HTTPS_PROXY"),
    ],
)
def test_the_proxy_of_an_https_address(environ, variable):
    """HTTPS_PROXY before ALL_PROXY, lower case before upper; a value without a scheme is http."""
    assert proxy_for(API, environ) == Proxy(PROXY, variable)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HTTPS_PROXY": ""},
        {"HTTPS_PROXY": "  "},
        {"HTTP_PROXY": PROXY},
        {"https_proxy": "", "HTTPS_PROXY": PROXY},
        {"FTP_PROXY": PROXY},
    ],
)
def test_an_https_address_without_a_proxy(environ):
    """No variable applies, or an empty lower-case variable disables the proxy."""
    assert proxy_for(API, environ) is None


def test_http_proxy_is_ignored_in_a_cgi_program():
    """With REQUEST_METHOD set, only the lower-case variable counts (httpoxy), as in urllib and the SDK."""
    cgi = {"REQUEST_METHOD": "GET", "HTTP_PROXY": PROXY}
    assert proxy_for("http://api.test/v1", cgi) is None
    assert proxy_for("http://api.test/v1", {**cgi, "http_proxy": PROXY}) == Proxy(PROXY, "http_proxy")


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("proxy.test", "http://proxy.test:80"),
        ("https://proxy.test", "https://proxy.test:443"),
        ("[::1]:3128", "http://[::1]:3128"),
        ("http://10.0.0.1:3128", "http://10.0.0.1:3128"),
        ("http://bücher.test:1", "http://bücher.test:1"),
    ],
)
def test_a_proxys_address(value, url):
    """Without a port, the scheme's default port is used."""
    proxy = proxy_for(API, {"HTTPS_PROXY": value})
    assert proxy is not None
    assert proxy.url == url


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        ("http://user:word@proxy.test:3128", "user:word"),
        ("user:word@proxy.test:3128", "user:word"),
        ("http://user@proxy.test:3128", "user:"),
        ("http://a%40b:p%2Fw%C3%B6rd%3A1@proxy.test:3128", "a@b:p/wörd:1"),
        ("http://user:w@rd@proxy.test:3128", "user:w@rd"),
    ],
)
def test_a_proxys_credentials_are_kept_out_of_its_url(value, pair):
    """They become the Proxy-Authorization header and are not in the URL, `str` or `repr`."""
    proxy = proxy_for(API, {"HTTPS_PROXY": value})
    assert proxy is not None
    assert proxy.url == PROXY
    assert proxy.headers == {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    assert not any(secret in f"{proxy} {proxy!r}" for secret in ("word", "rd", "Basic"))


@pytest.mark.parametrize(
    ("entry", "address", "named"),
    [
        ("api.test", API, True),
        ("API.Test", "https://Api.TEST/v1", True),
        ("test", API, True),
        ("pi.test", API, False),
        (".test", API, True),
        (".api.test", API, False),
        ("*.test", API, True),
        ("*.api.test", API, False),
        ("*", API, True),
        ("other.test, *", API, True),
        ("other.test api.test", API, True),
        (" ,, ", API, False),
        ("api.test:443", API, True),
        ("api.test:8443", API, False),
        ("api.test:8443", "https://api.test:8443/v1", True),
        (".test:443", API, True),
        ("https://api.test", API, True),
        ("http://api.test", API, False),
        ("all://api.test", API, True),
        ("api.test.", API, False),
        ("api.test", "https://api.test./v1", True),
        ("localhost", "http://localhost:8080/v1", True),
        ("localhost", "http://127.0.0.1:8080/v1", False),
        ("127.0.0.1", "http://127.0.0.1:8080/v1", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/v1", True),
        ("127.0.0.1:8081", "http://127.0.0.1:8080/v1", False),
        ("127.0.0.0/8", "http://127.0.0.1:8080/v1", True),
        ("10.1.2.3/8", "http://10.200.0.1/v1", True),
        ("10.0.0.0/8", "http://11.0.0.1/v1", False),
        ("10.0.0.0/99", "http://10.0.0.1/v1", False),
        ("10.0.0.0/8", "http://localhost/v1", False),
        (".0.0.1", "http://127.0.0.1/v1", False),
        ("::1", "http://[::1]:8080/v1", True),
        ("[::1]", "http://[::1]:8080/v1", True),
        ("[::1]:8080", "http://[::1]:8080/v1", True),
        ("[::1]:8081", "http://[::1]:8080/v1", False),
        ("fd00::/8", "http://[fd12::7]/v1", True),
        ("[fd00::]/8", "http://[fd12::7]/v1", True),
        ("fe80::/10", "http://[fd12::7]/v1", False),
    ],
)
def test_no_proxy(entry, address, named):
    """Entries match by host and its subdomains, suffix, port, IP address and network; others match nothing."""
    assert is_excluded(address, {"NO_PROXY": entry}) is named
    assert (proxy_for(address, {"ALL_PROXY": PROXY, "no_proxy": entry}) is None) is named


def test_an_empty_lower_case_no_proxy_disables_the_other():
    """As for the variables that name a proxy."""
    assert not is_excluded(API, {"NO_PROXY": "api.test", "no_proxy": ""})


SECRET = "zq7word"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (f"socks5://me:{SECRET}@proxy.test:1080", "socks5:// proxies are not supported"),
        ("SOCKS5h://proxy.test", "socks5h:// proxies are not supported"),
        ("socks4a://proxy.test", "socks4a:// proxies are not supported"),
        (f"ftp://me:{SECRET}@proxy.test", "must begin with http:// or https://"),
        (f"{SECRET}://proxy.test", "must begin with http:// or https://"),
        ("http://", "is not the address of a proxy"),
        ("http://:3128", "is not the address of a proxy"),
        (f"proxy.test:{SECRET}", "is not the address of a proxy"),
        ("http://proxy..test:1", "is not the address of a proxy"),
        ("proxy.test:0", "is not the address of a proxy"),
        ("proxy.test:99999", "is not the address of a proxy"),
        ("http://[::1", "is not the address of a proxy"),
        ("http://proxy test:1", "is not the address of a proxy"),
        (f"http://me:{SECRET}#1@proxy.test:3128", "write / as %2F, @ as %40, # as %23"),
        (f"http://me:1/{SECRET}@proxy.test:3128", "is not the address of a proxy"),
        (f"http://me:1?{SECRET}@proxy.test:3128", "is not the address of a proxy"),
        (f"{SECRET} and more", "is not the address of a proxy"),
    ],
)
def test_an_invalid_proxy_is_reported_with_its_variable(value, message):
    """The message names the variable and a valid value, and does not quote possible secrets."""
    with pytest.raises(BadSetting) as bad:
        proxy_for(API, {"ALL_PROXY": value})
    assert str(bad.value).startswith("ALL_PROXY: ")
    assert message in str(bad.value)
    assert "A good value: http://proxy.example.com:3128." in str(bad.value)
    assert SECRET not in str(bad.value)


def test_an_invalid_proxy_for_other_addresses_is_ignored():
    """Only the variable that applies is read."""
    assert (
        proxy_for(API, {"HTTP_PROXY": "socks5://x", "NO_PROXY": "api.test", "ALL_PROXY": "socks5://x"})
        is None
    )


values = st.text(alphabet="htps:/@[]#?%.-ab1 ,*é\t", max_size=30)


@given(values, values, st.sampled_from([API, "http://[::1]:80/v1", "http://10.0.0.1/v1"]))
def test_any_value_gives_a_usable_proxy_or_bad_setting(value, no_proxy, address):
    """No other exception is raised, and both HTTP clients accept the proxy."""
    try:
        proxy = proxy_for(address, {"ALL_PROXY": value, "NO_PROXY": no_proxy})
    except BadSetting as bad:
        proxy, message = None, str(bad)
    else:
        message = "ALL_PROXY: "
    assert message.startswith("ALL_PROXY: ")
    assert proxy is None or (httpx2.Proxy(proxy.url).url.host and URL(proxy.url).host)


SAME = {
    "own": {"HTTPS_PROXY": PROXY},
    "all": {"all_proxy": PROXY},
    "host": {"ALL_PROXY": PROXY, "NO_PROXY": "api.test"},
    "parent": {"ALL_PROXY": PROXY, "NO_PROXY": "test"},
    "dot": {"ALL_PROXY": PROXY, "NO_PROXY": ".test"},
    "dot of itself": {"ALL_PROXY": PROXY, "NO_PROXY": ".api.test"},
    "part": {"ALL_PROXY": PROXY, "NO_PROXY": "i.test"},
    "star": {"ALL_PROXY": PROXY, "NO_PROXY": "*"},
    "network": {"ALL_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"},
    "loopback": {"ALL_PROXY": PROXY},
}


@pytest.mark.parametrize("case", SAME)
@pytest.mark.parametrize(
    "address", [API, "http://10.1.2.3:8000/v1", "http://127.0.0.1:8000/v1", "http://localhost/v1"]
)
def test_the_rule_is_that_of_the_sdks_client(case, address, monkeypatch):
    """Fails if a new version of the SDK's client changes its rule."""
    for name, value in SAME[case].items():
        monkeypatch.setenv(name, value)
    with httpx2.Client(verify=False) as own:
        chosen = own._transport_for_url(httpx2.URL(address))
        assert (proxy_for(address, SAME[case]) is None) is (chosen is own._transport)


def test_a_child_process_reaches_the_emulator_without_a_proxy():
    """Existing entries of NO_PROXY are kept."""
    address = "http://127.0.0.1:4711/v1"
    for environ in ({}, {"NO_PROXY": "a.test"}, {"no_proxy": "a.test", "NO_PROXY": "b.test"}):
        child_variables = no_proxy_variables(address, environ)
        assert proxy_for(address, {"ALL_PROXY": PROXY, **environ, **child_variables}) is None
        assert is_excluded("http://a.test", {**environ, **child_variables}) is bool(environ)


async def test_a_client_of_the_emulator_uses_no_proxy(monkeypatch):
    """With `environ={}` even an invalid variable is ignored."""
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.test")
    await make_client("offline", "http://127.0.0.1:4711/v1", environ={}).close()
    with pytest.raises(BadSetting, match="ALL_PROXY"):
        make_client("offline", "http://127.0.0.1:4711/v1")
