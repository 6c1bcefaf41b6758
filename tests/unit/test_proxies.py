"""Which way a request takes, by the variables alone: the rule of the SDK's client, its gaps filled as curl and Go do."""

import base64

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from askmill.config.proxies import Proxy, excepted, proxy_for, without_proxy
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
    """Its own variable before ALL_PROXY, lower case before upper; without a scheme it is http."""
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
def test_the_direct_way_of_an_https_address(environ):
    """Nothing is set for it, or an empty variable in lower case switches it off."""
    assert proxy_for(API, environ) is None


def test_a_cgi_servers_http_proxy_is_the_header_of_whoever_asks():
    """With REQUEST_METHOD only the lower case counts (httpoxy), as in urllib and so in the SDK."""
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
    """The port is its scheme's where none is said."""
    found = proxy_for(API, {"HTTPS_PROXY": value})
    assert found is not None
    assert found.url == url


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
def test_a_proxys_credentials_stand_beside_its_address(value, pair):
    """They become its Proxy-Authorization, and are in no address, text or `repr`."""
    found = proxy_for(API, {"HTTPS_PROXY": value})
    assert found is not None
    assert found.url == PROXY
    assert found.headers == {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    assert not any(secret in f"{found} {found!r}" for secret in ("word", "rd", "Basic"))


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
def test_what_no_proxy_names(entry, address, named):
    """By host with all below it, by suffix, port, address and network; what is none of these names nothing."""
    assert excepted(address, {"NO_PROXY": entry}) is named
    assert (proxy_for(address, {"ALL_PROXY": PROXY, "no_proxy": entry}) is None) is named


def test_an_empty_no_proxy_in_lower_case_switches_the_other_off():
    """As for the variables that name a proxy."""
    assert not excepted(API, {"NO_PROXY": "api.test", "no_proxy": ""})


SECRET = "zq7word"


@pytest.mark.parametrize(
    ("value", "said"),
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
def test_an_unusable_proxy_is_a_sentence_with_its_variable(value, said):
    """It names the variable and a good value, and quotes nothing that may be secret."""
    with pytest.raises(BadSetting) as bad:
        proxy_for(API, {"ALL_PROXY": value})
    assert str(bad.value).startswith("ALL_PROXY: ")
    assert said in str(bad.value)
    assert "A good value: http://proxy.example.com:3128." in str(bad.value)
    assert SECRET not in str(bad.value)


def test_an_unusable_proxy_of_other_addresses_matters_not():
    """Only the variable that applies is read."""
    assert (
        proxy_for(API, {"HTTP_PROXY": "socks5://x", "NO_PROXY": "api.test", "ALL_PROXY": "socks5://x"})
        is None
    )


values = st.text(alphabet="htps:/@[]#?%.-ab1 ,*é\t", max_size=30)


@given(values, values, st.sampled_from([API, "http://[::1]:80/v1", "http://10.0.0.1/v1"]))
def test_whatever_the_variables_hold_is_an_answer_or_a_sentence(value, no_proxy, address):
    """No other exception, and what comes out both clients can use."""
    try:
        found = proxy_for(address, {"ALL_PROXY": value, "NO_PROXY": no_proxy})
    except BadSetting as bad:
        found, said = None, str(bad)
    else:
        said = "ALL_PROXY: "
    assert said.startswith("ALL_PROXY: ")
    assert found is None or (httpx2.Proxy(found.url).url.host and URL(found.url).host)


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
def test_it_is_the_way_of_the_sdks_own_client(case, address, monkeypatch):
    """Where the SDK's client has a rule, ours is that rule; a new version that changes it fails here."""
    for name, value in SAME[case].items():
        monkeypatch.setenv(name, value)
    with httpx2.Client() as own:
        chosen = own._transport_for_url(httpx2.URL(address))
        assert (proxy_for(address, SAME[case]) is None) is (chosen is own._transport)


def test_a_child_goes_to_our_emulator_directly():
    """What NO_PROXY names already stays named."""
    address = "http://127.0.0.1:4711/v1"
    for known in ({}, {"NO_PROXY": "a.test"}, {"no_proxy": "a.test", "NO_PROXY": "b.test"}):
        told = without_proxy(address, known)
        assert proxy_for(address, {"ALL_PROXY": PROXY, **known, **told}) is None
        assert excepted("http://a.test", {**known, **told}) is bool(known)


async def test_a_client_of_our_emulator_takes_no_proxy(monkeypatch):
    """`environ={}`: not even an unusable one matters."""
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.test")
    await make_client("offline", "http://127.0.0.1:4711/v1", environ={}).close()
    with pytest.raises(BadSetting, match="ALL_PROXY"):
        make_client("offline", "http://127.0.0.1:4711/v1")
