"""Rules, and what they say of destinations."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnelkit.egress import policy as module
from tunnelkit.egress.policy import Policy, Rule
from tunnelkit.errors import InvalidError

PUBLIC = "93.184.216.34"


def allowed(policy: Policy, destination: str, port: int = 443, *, at: str = PUBLIC) -> bool:
    """Whether ``destination`` may be dialled; a name leads to the address ``at``."""
    try:
        return policy.refuses(None, ip_address(destination), port) is None
    except ValueError:
        early = policy.refuses_name(destination, port)
        late = policy.refuses(destination, ip_address(at), port)
        assert early is None or late is not None
        return late is None


# --- without a rule -----------------------------------------------------------------------------


@pytest.mark.parametrize("address", [PUBLIC, "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_public_addresses_are_open_by_default(address: str) -> None:
    assert allowed(Policy(), address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.1.1",
        "169.254.169.254",
        "172.31.255.255",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.251",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2001:0:102:304::80ff:fffe",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ],
)
def test_special_addresses_are_closed_by_default(address: str) -> None:
    assert not allowed(Policy(), address)
    assert not allowed(Policy(), "public.example", at=address)
    assert not allowed(Policy.parse(["allow *", "allow *.example"]), "public.example", at=address)


def test_the_reason_names_the_class() -> None:
    assert Policy().refuses(None, ip_address("169.254.169.254"), 80) == (
        "169.254.169.254 is a metadata address"
    )


# --- rules --------------------------------------------------------------------------------------


def test_the_first_rule_that_matches_wins() -> None:
    policy = Policy.parse(["deny bad.example.com", "allow *.example.com", "deny *"])
    assert not allowed(policy, "bad.example.com")
    assert allowed(policy, "good.example.com")
    assert not allowed(policy, "example.com")
    turned = Policy.parse(["allow *.example.com", "deny bad.example.com"])
    assert allowed(turned, "bad.example.com")


def test_denials_alone_leave_the_rest_open() -> None:
    policy = Policy.parse(["deny *:25", "deny ads.example"])
    assert not allowed(policy, "mail.example", 25)
    assert not allowed(policy, PUBLIC, 25)
    assert not allowed(policy, "ads.example")
    assert allowed(policy, "www.example")


def test_a_list_of_what_is_allowed_is_complete() -> None:
    policy = Policy.parse(["allow www.example"])
    assert allowed(policy, "www.example")
    assert not allowed(policy, "other.example")
    assert not allowed(policy, PUBLIC)
    assert policy.refuses_name("other.example", 443) == "no rule allows it"


def test_a_rule_on_addresses_opens_special_ones() -> None:
    policy = Policy.parse(["allow 10.0.0.0/8:5432", "allow *"])
    assert allowed(policy, "10.1.2.3", 5432)
    assert allowed(policy, "db.example", 5432, at="10.1.2.3")
    assert not allowed(policy, "10.1.2.3", 22)
    assert not allowed(policy, "127.0.0.1", 5432)
    assert allowed(policy, PUBLIC)


def test_a_rule_on_addresses_holds_for_names_too() -> None:
    policy = Policy.parse(["deny 93.184.0.0/16"])
    assert not allowed(policy, "www.example")
    assert allowed(policy, "www.example", at="8.8.8.8")


def test_a_rule_on_names_says_nothing_of_addresses() -> None:
    assert allowed(Policy.parse(["deny *.example"]), PUBLIC)


def test_mapped_addresses_and_networks_are_ipv4() -> None:
    for rule in ("deny 93.184.216.0/24", "deny [::ffff:93.184.216.0/120]", "deny ::ffff:93.184.216.0/120"):
        policy = Policy.parse([rule])
        assert not allowed(policy, PUBLIC)
        assert not allowed(policy, f"::ffff:{PUBLIC}") or "ffff" in rule


def test_addresses_inside_addresses_are_judged() -> None:
    translated = "64:ff9b::5db8:d822"  # the public address behind NAT64
    assert not allowed(Policy.parse(["deny 93.184.216.34"]), translated)
    assert allowed(Policy.parse(["allow 93.184.216.34"]), translated)
    teredo = "2001:0:5db8:d822::80ff:fffe"  # its server is public, its client loopback
    assert not allowed(Policy.parse(["deny 93.184.216.34"]), teredo)
    assert not allowed(Policy.parse(["allow 93.184.216.34"]), teredo)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("www.example", "www.example", True),
        ("WWW.Example.", "www.example", True),
        ("www.example", "xwww.example", False),
        ("*.example", "a.example", True),
        ("*.example", "a.b.example", True),
        ("*.example", "example", False),
        ("*.example", "aexample", False),
        (".example.com", "example.com", True),
        (".example.com", "a.b.example.com", True),
        (".example.com", "badexample.com", False),
        ("api-*.example", "api-7.example", True),
        ("api-*.example", "api.example", False),
        ("*a*b*.example", "xaxbx.example", True),
        ("*a*b*.example", "xbxax.example", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("**.example", "a.example", True),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("*.bücher.example", "a.xn--bcher-kva.example", True),
        ("my_host", "my_host", True),
    ],
)
def test_patterns_of_names(pattern: str, name: str, matches: bool) -> None:
    assert Rule.parse("allow", pattern).is_for_name(name) is matches


@pytest.mark.parametrize(
    ("ports", "inside", "outside"),
    [
        ("", [1, 65535], []),
        (":443", [443], [80, 4430]),
        (":8000-8002", [8000, 8002], [7999, 8003]),
        (":80, 443,8000-8001", [80, 443, 8001], [81, 8002]),
    ],
)
@pytest.mark.parametrize("where", ["*", "www.example", "[2001:db8::]", "192.0.2.0/24", "[2001:db8::/32]"])
def test_ports(where: str, ports: str, inside: list[int], outside: list[int]) -> None:
    rule = Rule.parse("deny", where + ports)
    assert all(map(rule.is_for_port, inside))
    assert not any(map(rule.is_for_port, outside))


def test_ports_alone_are_for_everywhere() -> None:
    policy = Policy.parse(["deny :25"])
    assert not allowed(policy, PUBLIC, 25)
    assert not allowed(policy, "mail.example", 25)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "it is empty"),
        (" ", "it is empty"),
        ("192.0.2.1/24", "Did you mean 192.0.2.0/24"),
        ("10.*", "Write a network as 10.0.0.0/8"),
        ("*.*", "Write a network"),
        ("0x7f.1", "is no name"),
        ("127.1", "is no address"),
        ("2130706433", "is no address"),
        ("http://www.example", "http"),
        ("www.example:", "Not a port"),
        ("www.example:http", "Not a port"),
        ("www.example:0", "Not a port"),
        ("www.example:90-80", "The lower one is first"),
        ("www.example:80,", "Not a port"),
        ("www..example", "is no name"),
        ("user@www.example", "is no name"),
        ("-a.example", "is no name"),
        ("[192.0.2.1]", "brackets are for IPv6"),
        ("[::1", "brackets are for IPv6"),
        ("[::1]80", "brackets are for IPv6"),
        ("[::1]:", "brackets are for IPv6"),
        ("fe80::1%eth0", "is no network"),
        ("2001:db8::/129", "is no network"),
        ("*ü.example", "is no name"),
        ("x" * 5000, "is no name"),
        ("a\nb", "is no name"),
    ],
)
def test_what_is_no_rule_is_told_in_one_line(text: str, named: str) -> None:
    with pytest.raises(InvalidError, match=re.escape(named)) as caught:
        Rule.parse("deny", text)
    assert str(caught.value).isprintable()
    assert len(caught.value.what) < 300


@pytest.mark.parametrize("text", ["", "www.example", "permit *", "allow", "allow  ", "Allow *"])
def test_a_line_of_rules_starts_with_what_it_does(text: str) -> None:
    with pytest.raises(InvalidError, match="Not a rule"):
        Policy.parse([text])


@pytest.mark.parametrize("text", ["allow *", "deny *.example.com:443", "allow [2001:db8::/32]:80,8000-8999"])
def test_a_rule_is_shown_as_it_was_written(text: str) -> None:
    (rule,) = Policy.parse([text]).rules
    assert str(rule) == text


def test_a_name_that_may_lead_to_an_allowed_address_is_looked_up() -> None:
    policy = Policy.parse(["allow 10.0.0.0/8"])
    assert policy.refuses_name("db.example", 80) is None
    assert policy.refuses("db.example", ip_address(PUBLIC), 80) == "no rule allows it"


def test_a_name_that_is_denied_is_not_looked_up() -> None:
    policy = Policy.parse(["deny *.example"])
    assert policy.refuses_name("a.example", 80) == "the rule 'deny *.example'"
    assert policy.refuses_name("a.test", 80) is None


# --- generated ----------------------------------------------------------------------------------


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), st.text("ab", max_size=9))
def test_patterns_match_as_regular_expressions_do(parts: list[str], name: str) -> None:
    expression = ".*".join(map(re.escape, parts))
    assert module._matches(tuple(parts), name) is (re.fullmatch(expression, name) is not None)


@given(st.text(max_size=40), st.ip_addresses(), st.integers(1, 65535))
def test_any_text_is_a_rule_or_refused(text: str, address, port: int) -> None:
    try:
        rule = Rule.parse("deny", text)
    except InvalidError:
        return
    Policy([rule]).refuses("www.example", address, port)


RULES = ["*", "a.example", "*.example", "10.0.0.0/8", "[2000::/3]", ":80", "0.0.0.0/0:443"]


@given(
    st.lists(st.tuples(st.sampled_from(["allow", "deny"]), st.sampled_from(RULES))),
    st.sampled_from(["a.example", "b.test"]),
    st.ip_addresses(),
    st.sampled_from([80, 443]),
)
def test_what_is_refused_by_its_name_alone_is_refused_at_any_address(rules, name, address, port) -> None:
    policy = Policy.parse(f"{action} {where}" for action, where in rules)
    if policy.refuses_name(name, port) is not None:
        assert policy.refuses(name, address, port) is not None
