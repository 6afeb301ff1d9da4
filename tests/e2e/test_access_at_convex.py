"""Who may call what, over real HTTP and with real tokens (faults F3, F4).

The functions come from the server's own list, so one that is added later is tested too. Refused alike means: the
same status and the same body as for a function that does not exist, called with the same token.
"""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.deployment import Client, Deployment
from tests.support.executions import execution
from tests.support.sampling import sample
from worker.clock import SystemClock
from worker.identity import AUDIENCE, ISSUER, SUBJECT, Identity, make_key_pair, public_jwk
from worker.models import Lease, RawReport

WORKER = ("tradeImport/worker:", "tradeImport/reports:")
REQUEST_ID = re.compile(r"\[Request ID: [0-9a-f]+\]")
Answer = tuple[int, str]


class Stage:
    """Alice's connection with a running job, and a way to call any function with any token."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._http = httpx.Client(base_url=deployment.address)
        self.user: Client = deployment.user("alice")
        connection_id = self.user.mutation(
            "tradeImport/connections:create",
            {"kind": "kraken", "auth": {"kind": "kraken", "apiKey": "K" * 56, "apiSecret": "U2VjcmV0" * 11}},
        )
        lease = deployment.store().claim(connection_id, "manual")
        assert isinstance(lease, Lease)
        assert lease.fence == 1, "sample() takes 1 for every number"
        job = deployment.store().job(lease)
        job.bind_account("ALICE")
        job.ingest([execution(1, account="ALICE")], [], coverage=(), extras={})
        report = RawReport("ibkr_flex_activity", "ALICE", 1, io.BytesIO(b"x"))
        (row,) = deployment.documents("externalExecutions")
        plan = {"name": "P", "instrumentSymbol": "BTC/USD"}
        plan |= dict.fromkeys(("entryConditions", "exitConditions", "targetConditions"), "")
        self.ids = {
            "brokerageConnections": connection_id,
            "campaigns": self.user.mutation("campaigns:createCampaign", {"name": "C", "thesis": "T"}),
            "tradePlans": self.user.mutation("tradePlans:createTradePlan", plan),
            "importJobs": lease.job_id,
            "importPositions": deployment.documents("importPositions")[0]["_id"],
            "importReports": job.begin_report(report, 2, "of its parts").report_id,
            "externalExecutions": row["_id"],
            "trades": row["tradeIds"][0],
        }
        self.functions = [function for function in deployment.functions() if function["isPublic"]]

    def call(self, function: dict[str, Any], token: str | None, *, path: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        body = {"path": path or function["path"], "args": sample(function["args"], self.ids), "format": "json"}
        answer = self._http.post(f"/api/{function['kind']}", json=body, headers=headers)
        return answer.status_code, REQUEST_ID.sub("[Request ID]", answer.text)

    def worker_functions(self) -> list[dict[str, Any]]:
        return [function for function in self.functions if function["path"].startswith(WORKER)]

    def user_functions(self) -> list[dict[str, Any]]:
        return [
            function
            for function in self.functions
            if function["path"].startswith("tradeImport/") and not function["path"].startswith(WORKER)
        ]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Deployment() as deployment:
        yield Stage(deployment)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 900, **changes}


def signed(key: str, body: dict[str, Any], *, kid_of: str | None = None) -> str:
    kid = public_jwk(kid_of or key)["kid"]
    return jwt.encode(body, load_pem_private_key(key.encode(), None), algorithm="ES256", headers={"kid": kid})


def by_hand(header: dict[str, Any], body: dict[str, Any]) -> str:
    """A token without a signature."""
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, body))
    return ".".join((*parts, ""))


Token = Callable[[Deployment], str | None]
STRANGERS: dict[str, Token] = {
    "no token": lambda _: None,
    "a user's": lambda d: d.mint("mallory"),
    "a user with the worker's name": lambda d: d.mint(SUBJECT),
    "the same claims, another key": lambda _: signed(make_key_pair().private_pem, claims()),
    "another key under the worker's name": lambda d: signed(
        make_key_pair().private_pem, claims(), kid_of=d.private_key
    ),
    "expired": lambda d: signed(d.private_key, claims(iat=int(time.time()) - 1800, exp=int(time.time()) - 900)),
    "wrong audience": lambda d: signed(d.private_key, claims(aud="convex")),
    "wrong issuer": lambda d: signed(d.private_key, claims(iss="https://trade-sync-worker.example")),
    "wrong subject": lambda d: signed(d.private_key, claims(sub="somebody")),
    "alg none": lambda d: by_hand({"alg": "none", "kid": public_jwk(d.private_key)["kid"]}, claims()),
    "signed with the public key": lambda d: jwt.encode(
        claims(), public_jwk(d.private_key)["x"] * 2, algorithm="HS256",
        headers={"kid": public_jwk(d.private_key)["kid"]},
    ),
    "no token at all": lambda _: "nonsense",
}  # fmt: skip


@pytest.mark.parametrize("who", STRANGERS)
def test_F3_for_a_stranger_the_worker_s_functions_do_not_exist(stage: Stage, who: str) -> None:
    deployment = stage.deployment
    token = STRANGERS[who](deployment)
    before = deployment.everything()
    functions = stage.worker_functions()
    assert len(functions) >= 6
    for function in functions:
        nowhere = stage.call(function, token, path="tradeImport/nothing:here")
        assert stage.call(function, token) == nowhere, function["path"]
        assert '"status":"success"' not in nowhere[1]
    assert deployment.everything() == before


def test_F3_the_worker_s_token_opens_no_function_of_the_users(stage: Stage) -> None:
    token = Identity(stage.deployment.private_key, SystemClock()).token()
    before = stage.deployment.everything()
    functions = stage.user_functions()
    assert len(functions) >= 13
    for function in functions:
        status, body = stage.call(function, token)
        assert status == 200
        assert json.loads(body)["errorData"]["code"] == "not_authenticated", function["path"]
    assert stage.deployment.everything() == before


def test_F3_internal_functions_are_open_to_nobody(stage: Stage) -> None:
    deployment = stage.deployment
    internal = [function for function in deployment.functions() if not function["isPublic"]]
    assert internal, "the project has internal functions"
    before = deployment.everything()
    for token in (None, deployment.mint("mallory"), Identity(deployment.private_key, SystemClock()).token()):
        for function in internal:
            nowhere = stage.call(function, token, path="tradeImport/nothing:here")
            assert stage.call(function, token) == nowhere, function["path"]
    assert deployment.everything() == before


def test_the_samples_would_pass_if_the_caller_did(stage: Stage) -> None:
    """Control of the tests above: with the right token the same calls reach every function. Runs last."""
    deployment = stage.deployment
    before = deployment.everything()
    worker = Identity(deployment.private_key, SystemClock()).token()
    for function in stage.worker_functions():
        status, body = stage.call(function, worker)
        document = json.loads(body)
        assert status == 200
        assert document["status"] == "success" or "errorData" in document, (function["path"], body)
    alice = deployment.mint("alice")
    for function in stage.user_functions():
        document = json.loads(stage.call(function, alice)[1])
        assert document["status"] == "success" or "errorData" in document, (function["path"], document)
        assert document.get("errorData", {}).get("code") != "not_authenticated"
    assert deployment.everything() != before
