"""Arguments for any function, made from its validator as the local server lists it."""

from __future__ import annotations

from typing import Any


def sample(schema: dict[str, Any], ids: dict[str, str], field: str = "") -> Any:
    """Arguments that pass the validator; `ids` has a document's id for every table that is asked for."""
    match schema["type"]:
        case "id":
            return ids[schema["tableName"]]
        case "array":
            return [sample(schema["value"], ids)]
        case "object":
            return {
                name: sample(member["fieldType"], ids, name)
                for name, member in schema["value"].items()
                if not member["optional"]
            }
        case "union":
            return None if field == "cursor" else sample(schema["value"][0], ids)
        case "literal":
            return schema["value"]
        case "record":
            return {}
        case "string":
            return ids["brokerageConnections"] if field == "connectionId" else "text"
        case "number" | "float64":
            return 1
        case "boolean":
            return True
        case "bytes":
            return {"$bytes": "AA=="}
        case "null":
            return None
        case other:
            raise AssertionError(f"no sample for {other}")
