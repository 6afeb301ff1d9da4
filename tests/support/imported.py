"""What Convex holds of one connection, for tests."""

from __future__ import annotations

from typing import Any

from tests.support.deployment import Client, Deployment


class Imported:
    """Everything that belongs to one connection of one user."""

    def __init__(self, deployment: Deployment, user: Client, connection_id: str) -> None:
        self.deployment = deployment
        self.user = user
        self.connection_id = connection_id

    def executions(self) -> list[dict[str, Any]]:
        return self.deployment.documents("externalExecutions", connectionId=self.connection_id)

    def trades(self) -> list[dict[str, Any]]:
        """The journal's rows of the connection's executions."""
        executions = self.executions()
        ours = {row["_id"] for row in executions}
        owners = {str(row["ownerId"]) for row in executions}
        rows = [row for owner in owners for row in self.deployment.documents("trades", ownerId=owner)]
        return [row for row in rows if row.get("executionId") in ours]

    def jobs(self) -> list[dict[str, Any]]:
        """The connection's jobs, oldest first."""
        rows = self.deployment.documents("importJobs", connectionId=self.connection_id)
        return sorted(rows, key=lambda row: row["_creationTime"])

    def rejects(self) -> list[dict[str, Any]]:
        return self.deployment.documents("importRejects", connectionId=self.connection_id)

    def cursor(self) -> dict[str, Any]:
        (row,) = self.deployment.documents("importCursorState", connectionId=self.connection_id)
        return row

    def connection(self) -> dict[str, Any]:
        """The connection as its owner sees it."""
        (row,) = [
            row for row in self.user.query("tradeImport/connections:list") if row["connectionId"] == self.connection_id
        ]
        return row

    def assert_accounted(self) -> None:
        """I4: of every ended job, what was fetched is what became of it."""
        for job in self.jobs():
            if job["status"] == "running":
                continue
            stats = job["stats"]
            assert stats["fetched"] == sum(
                stats[fate] for fate in ("inserted", "updated", "known", "held", "rejected")
            ), stats
