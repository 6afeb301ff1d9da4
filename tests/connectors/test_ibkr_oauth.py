"""OAuth 1.0a against a server side written from reference ibkr 3 alone; steps are those of 3.2."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import logging
import os
import re
import sys
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.clock import VirtualClock
from worker import log
from worker.connectors.ibkr_oauth import (
    DH_FILE,
    ENCRYPTION_FILE,
    SIGNATURE_FILE,
    LiveSessionToken,
    OAuthKeys,
    OAuthSigner,
    TokenRequest,
    base_string,
    load_keys,
    signed_bytes,
)
from worker.errors import AuthFailed, Unavailable
from worker.models import IbkrOAuthAuth

NOW = 1_790_000_000_123
EXPIRES = NOW + 86_400_000
URL = "https://api.ibkr.com/v1/api"
TOKEN_URL = f"{URL}/oauth/live_session_token"
CONSUMER = "JOURNALAB"
ACCESS_TOKEN = "0a1b2c3d4e5f6a7b8c9d"
SECRET = bytes(range(200, 232))

# The 2048-bit MODP group of RFC 3526, generator 2, as `openssl genpkey -genparam -algorithm DH` writes it.
DH_PEM = """-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA///////////JD9qiIWjCNMTGYouA3BzRKQJOCIpnzHQCC76mOxOb
IlFKCHmONATd75UZs806QxswKwpt8l8UN0/hNW1tUcJF5IW1dmJefsb0TELppjft
awv/XLb0Brft7jhr+1qJn6WunyQRfEsf5kkoZlHs5Fs9wgB8uKFjvwWY2kg2HFXT
mmkWP6j9JM9fg2VdI9yjrZYcYvNWIIVSu57VKQdwlpZtZww1Tkq8mATxdGwIyhgh
fDKQXkYuNs474553LBgOhgObJ4Oi7Aeij7XFXfBvTFLJ3ivL9pVYFxg5lUl86pVq
5RXSJhiY+gUQFXKOWoqsqmj//////////wIBAg==
-----END DH PARAMETERS-----
"""
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D"
    "670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, *, pkcs1: bool = False, password: bytes = b"") -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL if pkcs1 else serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    ).decode()


SIGNATURE = rsa_key()
ENCRYPTION = rsa_key()
CIPHERTEXT = base64.b64encode(ENCRYPTION.public_key().encrypt(SECRET, padding.PKCS1v15())).decode()
AUTH = IbkrOAuthAuth(
    kind="ibkr_oauth",
    consumer_key=CONSUMER,
    access_token=ACCESS_TOKEN,
    access_token_secret=CIPHERTEXT,
    signature_key=pem(SIGNATURE),
    encryption_key=pem(ENCRYPTION),
    dh_param=DH_PEM,
)


def auth(**changes: str | None) -> IbkrOAuthAuth:
    return AUTH.model_copy(update=changes)


class Refused(Exception):
    """The broker's 401."""


def parameters_of(header: str) -> dict[str, str]:
    scheme, _, rest = header.partition(" ")
    assert scheme == "OAuth"
    found = re.findall(r'(?:^|, )([a-z_]+)="([^"]*)"', rest)
    assert ", ".join(f'{name}="{value}"' for name, value in found) == rest
    return dict(found)


def enc(text: str) -> str:
    return "".join(char if re.match(r"[A-Za-z0-9._~-]", char) else f"%{ord(char):02X}" for char in text)


@dataclass
class Broker:
    """The other side: it knows the consumer's public signature key, the token's secret and the DH prime."""

    secret: bytes = SECRET
    consumer: str = CONSUMER
    access_token: str = ACCESS_TOKEN
    realm: str = "limited_poa"
    exponent: int = int.from_bytes(hashlib.sha256(b"the broker's own").digest(), "big")
    expires: object = EXPIRES

    def __post_init__(self) -> None:
        self.token = b""
        self.shared = 0
        self.nonces: set[str] = set()

    def live_session_token(self, request: TokenRequest, url: str = TOKEN_URL) -> dict[str, object]:
        (header,) = request.headers.values()
        assert list(request.headers) == ["Authorization"]
        given = self._checked(header, "RSA-SHA256", {"diffie_hellman_challenge"})
        signature = base64.b64decode(urllib.parse.unquote(given.pop("oauth_signature")), validate=True)
        base = self.secret.hex() + self._base("POST", url, given)
        try:
            SIGNATURE.public_key().verify(signature, base.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise Refused("signature") from None
        self.shared = pow(int(given["diffie_hellman_challenge"], 16), self.exponent, PRIME)
        key = bytes.fromhex(f"{self.shared:x}".zfill((self.shared.bit_length() + 7) // 8 * 2))
        if self.shared.bit_length() % 8 == 0:
            key = b"\0" + key
        self.token = hmac.new(key, self.secret, hashlib.sha1).digest()
        return {
            "diffie_hellman_response": f"{pow(2, self.exponent, PRIME):x}",
            "live_session_token_signature": hmac.new(self.token, self.consumer.encode(), hashlib.sha1).hexdigest(),
            "live_session_token_expiration": self.expires,
        }

    def check(self, header: str, method: str, url: str) -> None:
        given = self._checked(header, "HMAC-SHA256", set())
        signature = base64.b64decode(urllib.parse.unquote(given.pop("oauth_signature")), validate=True)
        if signature != hmac.new(self.token, self._base(method, url, given).encode(), hashlib.sha256).digest():
            raise Refused("signature")

    def _checked(self, header: str, method: str, more: set[str]) -> dict[str, str]:
        given = parameters_of(header)
        assert given.pop("realm") == self.realm
        assert given.keys() == {
            "oauth_consumer_key", "oauth_nonce", "oauth_signature", "oauth_signature_method", "oauth_timestamp",
            "oauth_token", *more,
        }  # fmt: skip
        assert (given["oauth_signature_method"], given["oauth_token"]) == (method, self.access_token)
        assert given["oauth_timestamp"] == "1790000000"
        assert len(given["oauth_nonce"]) == 16
        assert given["oauth_nonce"] not in self.nonces
        self.nonces.add(given["oauth_nonce"])
        if given["oauth_consumer_key"] != self.consumer:
            raise Refused("invalid consumer")
        return given

    @staticmethod
    def _base(method: str, url: str, given: dict[str, str]) -> str:
        return f"{method}&{enc(url)}&{enc('&'.join(f'{name}={given[name]}' for name in sorted(given)))}"


def signer(of: IbkrOAuthAuth = AUTH, **changes: Any) -> OAuthSigner:
    return OAuthSigner(load_keys(of, None), VirtualClock(NOW), **changes)


# The handshake


def test_a_broker_agrees_on_a_token_and_accepts_what_is_signed_with_it() -> None:
    client, broker = signer(), Broker()
    request = client.token_request(TOKEN_URL)
    token = client.accept(request, broker.live_session_token(request))
    assert (token.secret, token.expires_at) == (broker.token, EXPIRES)
    for method, path in (("POST", "/iserver/auth/ssodh/init"), ("GET", "/iserver/accounts"), ("POST", "/tickle")):
        broker.check(client.authorization(method, URL + path, token), method, URL + path)


def test_query_parameters_are_not_signed() -> None:
    client, broker = signer(), Broker()
    request = client.token_request(TOKEN_URL)
    token = client.accept(request, broker.live_session_token(request))
    url = f"{URL}/iserver/account/trades"
    broker.check(client.authorization("GET", f"{url}?days=7&accountId=U1", token), "GET", url)


@pytest.mark.parametrize("whole_bytes", [True, False], ids=["8n bits", "other lengths"])
def test_both_sides_agree_at_every_length_of_the_shared_secret(whole_bytes: bool) -> None:
    counter = iter(range(1, 1000))

    def token_bytes(length: int) -> bytes:
        return hashlib.sha256(str(next(counter)).encode()).digest()[:length]

    client, broker, lengths = signer(token_bytes=token_bytes), Broker(), []
    while lengths.count(whole_bytes) < 3:
        request = client.token_request(TOKEN_URL)
        token = client.accept(request, broker.live_session_token(request))
        assert token.secret == broker.token
        lengths.append(broker.shared.bit_length() % 8 == 0)


@given(st.integers(min_value=0, max_value=2**2048) | st.integers(0, 2048).map(lambda bits: 1 << bits))
@example(0)
@example(0x7F)
@example(0x80)
@example(0xFF)
@example(0x100)
@example(2**2048 - 1)
@example(2**2047 - 1)
def test_a_zero_byte_leads_exactly_when_the_bit_length_is_a_multiple_of_8(number: int) -> None:
    spelled = signed_bytes(number)
    assert int.from_bytes(spelled, "big") == number
    assert (spelled[0] == 0) == (number.bit_length() % 8 == 0)
    assert spelled[:1] != b"\0" or len(spelled) == 1 or spelled[1] >= 0x80, "one zero byte at most"


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=8, max_size=8))
def test_any_random_bytes_make_an_agreement(exponent: bytes, nonce: bytes) -> None:
    client, broker = signer_of_random(exponent, nonce), Broker()
    request = client.token_request(TOKEN_URL)
    assert client.accept(request, broker.live_session_token(request)).secret == broker.token


KEYS = load_keys(AUTH, None)


def signer_of_random(exponent: bytes, nonce: bytes) -> OAuthSigner:
    return OAuthSigner(KEYS, VirtualClock(NOW), lambda length: {32: exponent, 8: nonce}[length])


def test_every_request_has_a_challenge_and_a_nonce_of_its_own() -> None:
    client = signer()
    requests = [parameters_of(client.token_request(TOKEN_URL).headers["Authorization"]) for _ in range(20)]
    for name in ("diffie_hellman_challenge", "oauth_nonce"):
        assert len({request[name] for request in requests}) == 20


def test_what_is_signed_letter_by_letter() -> None:
    given = {"oauth_token": "ab", "oauth_nonce": "12", "oauth_signature_method": "HMAC-SHA256"}
    assert base_string("get", "https://api.ibkr.com/v1/api/iserver/accounts", given) == (
        "GET&https%3A%2F%2Fapi.ibkr.com%2Fv1%2Fapi%2Fiserver%2Faccounts"
        "&oauth_nonce%3D12%26oauth_signature_method%3DHMAC-SHA256%26oauth_token%3Dab"
    )


@pytest.mark.parametrize(
    ("consumer", "realm", "sent"),
    [
        (CONSUMER, None, "limited_poa"),
        ("TESTCONS", None, "test_realm"),
        ("TESTCONS", "limited_poa", "limited_poa"),
        (CONSUMER, " test_realm ", "test_realm"),
    ],
)
def test_the_realm_is_the_consumers(consumer: str, realm: str | None, sent: str) -> None:
    client, broker = signer(auth(consumer_key=consumer, realm=realm)), Broker(consumer=consumer, realm=sent)
    request = client.token_request(TOKEN_URL)
    assert client.accept(request, broker.live_session_token(request)).secret == broker.token


# What must not be accepted


OTHER_SECRET = base64.b64encode(ENCRYPTION.public_key().encrypt(b"x" * 32, padding.PKCS1v15())).decode()


@pytest.mark.parametrize(
    "changes",
    [{"access_token_secret": OTHER_SECRET}, {"signature_key": pem(ENCRYPTION)}, {"consumer_key": "SOMEOTHER"}],
    ids=["secret of another token", "another signature key", "another consumer"],
)
def test_wrong_keys_are_refused_by_the_broker(changes: dict[str, str]) -> None:
    with pytest.raises(Refused):
        Broker().live_session_token(signer(auth(**changes)).token_request(TOKEN_URL))


def test_a_signature_is_for_one_address_and_one_method() -> None:
    client, broker = signer(), Broker()
    request = client.token_request(TOKEN_URL)
    with pytest.raises(Refused):
        Broker().live_session_token(request, url=f"https://1.api.ibkr.com{TOKEN_URL[20:]}")
    token = client.accept(request, broker.live_session_token(request))
    for method, path in (("GET", "/logout"), ("POST", "/tickle")):
        with pytest.raises(Refused):
            broker.check(client.authorization("GET", f"{URL}/tickle", token), method, URL + path)


def other_answer(**changes: object) -> Callable[[dict[str, object]], dict[str, object]]:
    return lambda answer: {**answer, **changes}


@pytest.mark.parametrize(
    "tamper",
    [
        other_answer(live_session_token_signature="00" * 20),
        other_answer(live_session_token_signature=""),
        other_answer(diffie_hellman_response="4"),
        other_answer(diffie_hellman_response=f"{PRIME - 2:x}"),
    ],
    ids=["another signature", "an empty signature", "another response", "a high response"],
)
def test_an_answer_whose_token_differs_is_refused(tamper: Callable[[dict[str, object]], dict[str, object]]) -> None:
    client, broker = signer(), Broker()
    request = client.token_request(TOKEN_URL)
    with pytest.raises(AuthFailed) as caught:
        client.accept(request, tamper(broker.live_session_token(request)))
    assert caught.value.code == "ibkr_oauth_mismatch"
    assert caught.value.action == "update_credentials"
    assert DH_FILE in caught.value.sentence


@pytest.mark.parametrize(
    "broker", [Broker(secret=SECRET[::-1]), Broker(consumer="SOMEOTHER")], ids=["secret", "consumer"]
)
def test_a_broker_that_takes_us_for_another_is_refused(broker: Broker) -> None:
    client = signer()
    request = client.token_request(TOKEN_URL)
    impostor = Broker()
    answer = impostor.live_session_token(request)
    token = hmac.new(signed_bytes(impostor.shared), broker.secret, hashlib.sha1).digest()
    answer["live_session_token_signature"] = hmac.new(token, broker.consumer.encode(), hashlib.sha1).hexdigest()
    with pytest.raises(AuthFailed) as caught:
        client.accept(request, answer)
    assert caught.value.code == "ibkr_oauth_mismatch"


GOOD = {"diffie_hellman_response": "4", "live_session_token_signature": "00", "live_session_token_expiration": EXPIRES}


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {},
        {"error": "id: 39687"},
        *({name: value for name, value in GOOD.items() if name != missing} for missing in GOOD),
        {**GOOD, "diffie_hellman_response": "xyz"},
        {**GOOD, "diffie_hellman_response": None},
        {**GOOD, "live_session_token_signature": "0"},
        {**GOOD, "live_session_token_signature": "é"},
        {**GOOD, "live_session_token_expiration": "soon"},
        {**GOOD, "live_session_token_expiration": True},
        # Both sides would come to a token that anyone knows.
        *({**GOOD, "diffie_hellman_response": f"{weak:x}"} for weak in (0, 1, -1, PRIME - 1, PRIME, PRIME + 1)),
    ],
)
def test_A11_an_answer_that_is_no_such_document_is_unavailable(document: object) -> None:
    client = signer()
    with pytest.raises(Unavailable) as caught:
        client.accept(client.token_request(TOKEN_URL), document)
    assert caught.value.code == "unexpected_answer"


def test_an_expiry_may_be_text() -> None:
    client, broker = signer(), Broker(expires=str(EXPIRES))
    request = client.token_request(TOKEN_URL)
    assert client.accept(request, broker.live_session_token(request)).expires_at == EXPIRES


# Keys

FILES = {SIGNATURE_FILE: pem(SIGNATURE), ENCRYPTION_FILE: pem(ENCRYPTION), DH_FILE: DH_PEM}
FIELDS = {SIGNATURE_FILE: "signature_key", ENCRYPTION_FILE: "encryption_key", DH_FILE: "dh_param"}
BARE = auth(signature_key=None, encryption_key=None, dh_param=None)


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def right(keys: OAuthKeys) -> bool:
    return (
        keys.prime == PRIME
        and keys.secret == SECRET
        and keys.signature.private_numbers() == SIGNATURE.private_numbers()
        and (keys.consumer_key, keys.access_token, keys.realm) == (CONSUMER, ACCESS_TOKEN, "limited_poa")
    )


def test_keys_come_from_the_credentials() -> None:
    assert right(load_keys(AUTH, None))


def test_keys_come_from_the_folder_of_the_consumer_key(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(FILES, "another consumer's"))
    write(tmp_path / CONSUMER, FILES)
    assert right(load_keys(BARE, tmp_path))


def test_keys_come_from_the_folder_itself(tmp_path: Path) -> None:
    assert right(load_keys(BARE, write(tmp_path, FILES)))


def test_each_key_that_was_entered_goes_before_its_file(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, SIGNATURE_FILE: "not used"})
    assert right(load_keys(auth(encryption_key=None, dh_param=" "), tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"signature_key": pem(SIGNATURE, pkcs1=True), "encryption_key": pem(ENCRYPTION, pkcs1=True)},
        {name: str(getattr(AUTH, name)).replace("\n", "\\n") for name in FIELDS.values()},
        {name: f"\n  {getattr(AUTH, name)}\n\n" for name in FIELDS.values()},
        {name: str(getattr(AUTH, name)).replace("\n", "\r\n") for name in FIELDS.values()},
        {"consumer_key": f" {CONSUMER}\n", "access_token": f"{ACCESS_TOKEN} "},
        {"access_token_secret": f"{CIPHERTEXT[:100]}\n{CIPHERTEXT[100:]}\n"},
    ],
    ids=["PKCS 1", "one line", "blanks around", "CRLF", "blanks around names", "secret in lines"],
)
def test_keys_are_understood_as_people_paste_them(changes: dict[str, str]) -> None:
    assert right(load_keys(auth(**changes), None))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, {other: text for other, text in FILES.items() if other != name})
    for of, directory in ((BARE, folder), (auth(**{FIELDS[name]: None}), None)):
        with pytest.raises(AuthFailed) as caught:
            load_keys(of, directory)
        assert caught.value.sentence.startswith(f"{name} of this consumer key is missing")
        assert "IBKR_OAUTH_KEYS" in caught.value.sentence
        assert (caught.value.code, caught.value.action) == ("ibkr_oauth_keys", "update_credentials")
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, {other: text for other, text in FILES.items() if other != name})
    if os.geteuid() == 0:
        (tmp_path / name).mkdir()  # root reads any file, but no folder as one
    else:
        (tmp_path / name).write_text(FILES[name])
        (tmp_path / name).chmod(0)
    with pytest.raises(AuthFailed) as caught:
        load_keys(BARE, tmp_path)
    assert f"cannot read {name}" in caught.value.sentence
    assert str(tmp_path) not in str(caught.value)


EC_KEY = ec.generate_private_key(ec.SECP256R1())
SMALL_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
LOCKED = pem(SIGNATURE, password=b"x")
PUBLIC = (
    SIGNATURE.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


def dh_pem(*der: int | bytes) -> str:
    """A sequence of `der`, integers encoded."""
    parts = b"".join(
        tlv(2, part.to_bytes(part.bit_length() // 8 + 1, "big", signed=True)) if isinstance(part, int) else part
        for part in der
    )
    return f"-----BEGIN DH PARAMETERS-----\n{base64.b64encode(tlv(0x30, parts)).decode()}\n-----END DH PARAMETERS-----"


def tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    return bytes((tag, length) if length < 128 else (tag, 0x82, length >> 8, length & 255)) + content


@pytest.mark.parametrize("name", [SIGNATURE_FILE, ENCRYPTION_FILE])
@pytest.mark.parametrize(
    "text",
    ["nonsense", FILES[SIGNATURE_FILE][:800], PUBLIC, pem(EC_KEY), pem(SMALL_KEY), LOCKED, DH_PEM, "\xff"],
    ids=["nonsense", "cut", "public", "elliptic", "too small", "with a password", "parameters", "bytes"],
)
def test_a_text_that_is_no_rsa_key_is_named_by_its_file(name: str, text: str) -> None:
    with pytest.raises(AuthFailed) as caught:
        load_keys(auth(**{FIELDS[name]: text}), None)
    assert caught.value.sentence.startswith(f"{name} is not a private RSA key of 2048 bits")
    assert caught.value.code == "ibkr_oauth_keys"


def test_parameters_may_name_the_length_of_exponents_too() -> None:
    assert load_keys(auth(dh_param=dh_pem(PRIME, 2, 256)), None).prime == PRIME


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        FILES[SIGNATURE_FILE],
        DH_PEM.replace("MIIBCAKC", "MIIBCAKD"),
        DH_PEM.replace("MIIB", "M*IB"),
        "\n".join(DH_PEM.splitlines()[:4]),
        dh_pem(PRIME, 5),
        dh_pem(PRIME >> 8, 2),
        dh_pem(PRIME),
        dh_pem(tlv(4, b"\0" * 257), 2),
        dh_pem(),
        dh_pem(-PRIME, 2),
    ],
    ids=[
        "nonsense", "a key", "wrong length", "no base64", "cut", "another generator", "a short prime", "no generator",
        "no integer", "empty", "negative",
    ],
)  # fmt: skip
def test_a_text_that_holds_no_parameters_is_named_by_its_file(text: str) -> None:
    with pytest.raises(AuthFailed) as caught:
        load_keys(auth(dh_param=text), None)
    assert caught.value.sentence.startswith(f"{DH_FILE} does not hold")


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("consumer_key", "", "consumer key"),
        ("consumer_key", "../ETC", "consumer key"),
        ("consumer_key", 'A", oauth_token="', "consumer key"),
        ("access_token", "", "access token"),
        ("access_token", 'canary"\r\nX-Header: 1', "access token"),
        ("realm", 'canary"', "realm"),
        ("access_token_secret", "", "access token secret"),
        ("access_token_secret", "canary!", "access token secret"),
        ("access_token_secret", CIPHERTEXT[:-4], "access token secret"),
    ],
    ids=[
        "no consumer", "a path", "a quotation mark", "no token", "a line end", "a realm", "no secret", "no base64",
        "cut",
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_is_refused_before_anything_is_read_or_sent(
    tmp_path: Path, field: str, text: str, said: str
) -> None:
    write(tmp_path, FILES)
    with pytest.raises(AuthFailed) as caught:
        load_keys(BARE.model_copy(update={field: text}), tmp_path / "keys" if field == "consumer_key" else tmp_path)
    assert said in caught.value.sentence
    assert "canary" not in str(caught.value)


# Secrets


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure(style="json", level="debug")
    yield stream
    root.handlers[:], root.level = before[0], before[1]
    structlog.reset_defaults()


def test_F1_nothing_secret_is_shown_or_logged(lines: io.StringIO, tmp_path: Path) -> None:
    access_token = "canary-access-token-1"
    of = BARE.model_copy(update={"access_token": access_token})
    keys = load_keys(of, write(tmp_path, FILES))
    client, broker = OAuthSigner(keys, VirtualClock(NOW)), Broker(access_token=access_token)
    request = client.token_request(TOKEN_URL)
    token = client.accept(request, broker.live_session_token(request))
    texts = [
        access_token,
        CIPHERTEXT,
        SECRET.hex(),
        base64.b64encode(broker.token).decode(),
        broker.token.hex(),
        *(line for name in (SIGNATURE_FILE, ENCRYPTION_FILE) for line in FILES[name].splitlines()[1:-1]),
    ]
    numbers = [str(request.exponent), f"{request.exponent:x}", repr(broker.token), repr(SECRET)]
    logger = log.get("test")
    for value in (of, keys, client, request, token):
        shown = repr(value) + str(value) + f"{value}"
        assert not [secret for secret in (*texts, *numbers) if secret in shown]
        logger.info("shown", value=value, listed=[value])
    for text in texts:
        logger.info(f"said {text}", note=text, url=f"https://host/?x={urllib.parse.quote(text, safe='')}")
    logger.info("sent", headers=dict(request.headers))
    logger.info("sent", authorization=client.authorization("GET", URL, token))
    written = lines.getvalue()
    assert written.count("\n") == 5 + len(texts) + 2
    assert not [text for text in (*texts, *numbers) if text in written or urllib.parse.quote(text, safe="") in written]
    assert "oauth_signature" not in written


@pytest.mark.parametrize("name", FILES)
def test_F1_no_failure_tells_what_is_in_a_file(tmp_path: Path, name: str) -> None:
    first, *inner, last = FILES[name].splitlines()
    write(tmp_path, {**FILES, name: "\n".join([first, *reversed(inner), last])})
    with pytest.raises(AuthFailed) as caught:
        load_keys(BARE, tmp_path)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not [line for line in inner if line in told]


def test_tokens_are_values() -> None:
    assert LiveSessionToken(b"x", 1) == LiveSessionToken(b"x", 1) != LiveSessionToken(b"y", 1)
