"""The worker's tokens: what Convex checks (reference convex 3.1), when they are renewed, how keys are handed over."""

from __future__ import annotations

import base64
import json
import stat
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from worker.identity import Identity, combine_jwks, jwks_data_uri, make_key_pair, public_jwk, thumbprint, write_keys

NOW = 1_760_000_000_000


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self, now: int = NOW) -> None:
        self.ms = now

    def now(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def read_jwks(data_uri: str) -> list[dict[str, Any]]:
    head, _, body = data_uri.partition(",")
    assert head == "data:application/json;base64"
    keys: list[dict[str, Any]] = json.loads(base64.b64decode(body, validate=True))["keys"]
    return keys


def decode(token: str, data_uri: str, now: int) -> dict[str, Any]:
    """As a verifier does it: the key is found by `kid`, then signature, issuer, audience and expiry are checked."""
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = [key for key in read_jwks(data_uri) if key["kid"] == kid]
    claims: dict[str, Any] = jwt.decode(
        token,
        jwt.PyJWK(key),
        algorithms=["ES256"],
        audience="trade-import",
        issuer="https://trade-sync-worker",
        options={"require": ["iss", "aud", "sub", "iat", "exp"], "verify_exp": False, "verify_iat": False},
    )
    assert claims["exp"] > now / 1000
    return claims


def test_token_is_what_convex_checks() -> None:
    pair = make_key_pair()
    token = Identity(pair.private_pem, Hands(), lifetime=900).token()
    assert decode(token, pair.jwks_data_uri, NOW) == {
        "iss": "https://trade-sync-worker",
        "aud": "trade-import",
        "sub": "sync-worker",
        "iat": NOW // 1000,
        "exp": NOW // 1000 + 900,
    }
    (key,) = read_jwks(pair.jwks_data_uri)
    assert {name: key[name] for name in ("kty", "crv", "alg", "use")} == {
        "kty": "EC",
        "crv": "P-256",
        "alg": "ES256",
        "use": "sig",
    }
    assert "d" not in key


def test_kid_is_the_thumbprint_of_rfc_7638() -> None:
    # The key and its thumbprint `jkt` of RFC 9449, sections 4.1 and 6.1.
    example = {
        "kty": "EC",
        "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
        "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        "crv": "P-256",
        "use": "not part of it",
    }
    assert thumbprint(example) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    key = public_jwk(make_key_pair().private_pem)
    assert key["kid"] == thumbprint(key)


@pytest.mark.parametrize(("age", "renewed"), [(0, False), (539, False), (540, True), (899, True), (90_000, True)])
def test_renewed_at_60_percent_of_its_life(age: int, renewed: bool) -> None:
    clock = Hands()
    worker = Identity(make_key_pair().private_pem, clock, lifetime=900)
    first = worker.token()
    clock.ms += age * 1000
    assert (worker.token() != first) is renewed


def test_D6_renew_signs_anew_at_once_and_is_kept() -> None:
    worker = Identity(make_key_pair().private_pem, Hands())
    first = worker.token()
    renewed = worker.renew()
    assert renewed != first  # ES256 signatures are randomised, so equal claims still differ
    assert worker.token() == renewed


def test_C12_a_token_signed_by_a_clock_a_day_ahead_is_dropped_once_the_clock_is_right() -> None:
    pair = make_key_pair()
    clock = Hands(NOW + 86_400_000)
    worker = Identity(pair.private_pem, clock)
    worker.token()
    clock.ms = NOW
    assert decode(worker.token(), pair.jwks_data_uri, NOW)["iat"] == NOW // 1000


def test_threads_share_one_token() -> None:
    worker = Identity(make_key_pair().private_pem, Hands())
    start = threading.Barrier(8)
    tokens: list[str] = []

    def ask() -> None:
        start.wait()
        tokens.append(worker.token())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len(set(tokens)) == 1


def test_rotation_lists_both_keys_and_each_one_once() -> None:
    old, new = make_key_pair(), make_key_pair()
    both = combine_jwks(new.jwks_data_uri, old.jwks_data_uri)
    for pair in (old, new):
        assert decode(Identity(pair.private_pem, Hands()).token(), both, NOW)["sub"] == "sync-worker"
    assert combine_jwks(both, new.jwks_data_uri) == both
    assert jwks_data_uri(public_jwk(new.private_pem), public_jwk(old.private_pem)) == both


@pytest.mark.parametrize("text", ["", "https://example.com/jwks", "data:application/json;base64,e30="])
def test_only_a_jwks_can_be_combined(text: str) -> None:
    with pytest.raises(ValueError, match="not a value of TRADE_SYNC_JWKS"):
        combine_jwks(make_key_pair().jwks_data_uri, text)


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(public_exponent=65537, key_size=2048)],
    ids=["P-384", "RSA"],
)
def test_other_keys_are_refused(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    with pytest.raises(ValueError, match="P-256"):
        Identity(pem, Hands())


def test_keys_writes_the_private_half_for_its_owner_only_and_prints_the_public_one(tmp_path: Path) -> None:
    out = tmp_path / "worker key.pem"
    text = write_keys(out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    (command,) = [line.strip() for line in text.splitlines() if "convex env set" in line]
    assert command.startswith('npx convex env set TRADE_SYNC_JWKS "data:application/json;base64,')
    printed = command.split('"')[1]
    assert decode(Identity(out.read_text(), Hands()).token(), printed, NOW)["sub"] == "sync-worker"
    assert f"TRADE_SYNC_PRIVATE_KEY_FILE='{out}'" in text
    assert not any(line in text for line in out.read_text().splitlines())


def test_keys_keeps_the_old_key_on_request_and_never_replaces_a_file(tmp_path: Path) -> None:
    old = make_key_pair()
    out = tmp_path / "key.pem"
    text = write_keys(out, keep=old.jwks_data_uri)
    printed = text.split('"')[1]
    for pem in (old.private_pem, out.read_text()):
        assert decode(Identity(pem, Hands()).token(), printed, NOW)
    before = out.read_bytes()
    with pytest.raises(FileExistsError):
        write_keys(out)
    assert out.read_bytes() == before


def test_a_key_pair_does_not_show_its_private_half() -> None:
    pair = make_key_pair()
    assert "PRIVATE" not in repr(pair)
    assert pair.private_pem.splitlines()[1] not in f"{pair}"
