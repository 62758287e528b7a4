"""`az` and `azd` for the scripts under test: few commands, on a state in the file AZ_STATE."""

import json
import os
import sys
from pathlib import Path
from typing import Any


def option(arguments: list[str], name: str) -> str:
    """The value of an option, empty where it is not given."""
    return arguments[arguments.index(name) + 1] if name in arguments else ""


def answer(state: dict[str, Any], arguments: list[str]) -> list[list[str]]:
    """Run one command; what it prints as tsv."""
    scope = option(arguments, "--subscription")
    topics = state["topics"]
    named = next((t for t in topics if t["name"] == option(arguments, "--system-topic-name")), None)
    match arguments:
        case ["keyvault", "list", *_]:
            home = f"/subscriptions/{scope}/resourceGroups/rg/providers/Microsoft.KeyVault/vaults"
            return [[f"{home}/{name}", name, "rg", "westeurope"] for name in state["vaults"]]
        case ["eventgrid", "system-topic", "list", *_]:
            return [[t["source"], t["name"], t["resourceGroup"], t["principal"] or "None"] for t in topics]
        case ["eventgrid", "system-topic", "create", *_]:
            name = option(arguments, "--name")
            source, group = option(arguments, "--source"), option(arguments, "--resource-group")
            topic = {"source": source, "name": name, "resourceGroup": group}
            topics.append({**topic, "principal": f"principal-of-{name}", "subscriptions": {}})
        case ["eventgrid", "system-topic", "event-subscription", "list", *_] if named:
            prefix = option(arguments, "--query").split("'")[1]
            return [[name] for name in named["subscriptions"] if name.startswith(prefix)][:1]
        case ["deployment", "group", "create", *_]:
            given = arguments[arguments.index("--parameters") + 1 :]
            values = dict(part.split("=", 1) for part in given if "=" in part)
            (topic,) = (each for each in topics if each["name"] == values["topicName"])
            made = {**values, "template": option(arguments, "--template-file")}
            topic["subscriptions"][values["name"]] = made
        case ["role", "assignment", "list", *_]:
            wanted = [option(arguments, name) for name in ("--assignee", "--role", "--scope")]
            grants = state.get("grants", [])
            return [["an-id"] for g in grants if [g["principal"], g["role"], g["scope"]] == wanted][:1]
        case ["role", "assignment", "create", *_]:
            grant = {"role": option(arguments, "--role"), "scope": option(arguments, "--scope")}
            principal = option(arguments, "--assignee-object-id")
            state.setdefault("grants", []).append({**grant, "principal": principal})
        case ["provider", "operation", "show", *_]:
            return [[name] for name in state["operations"]]
        case ["resource", "update", *_] | ["env", "set", *_] | ["provision", *_]:
            pass
        case _:
            raise SystemExit(f"the stand-in does not know: {arguments}")
    return []


def entra(state: dict[str, Any], arguments: list[str]) -> list[list[str]]:
    """The same for the tenant: applications, their federated credentials and service principals."""
    directory = state.setdefault("entra", {"app": [], "sp": [], "credentials": []})
    cloud = {"name": state.get("cloud", ""), "endpoints.activeDirectory": "https://login.test"}
    found: list[str] = []
    match arguments:
        case ["cloud", "show", *_]:
            found = [cloud[option(arguments, "--query")]]
        case ["account", "show", *_]:
            found = ["the-tenant"]
        case ["ad", "app", "federated-credential", "list", *_]:
            found = ["an-id" for _ in directory["credentials"]]
        case ["ad", "app", "federated-credential", "create", *_]:
            directory["credentials"].append(json.loads(option(arguments, "--parameters")))
        case ["ad", kind, "list", *_]:
            wanted = option(arguments, "--filter").split("'")[1]
            found = [made["id"] for made in directory[kind] if wanted in made.values()]
        case ["ad", kind, "create", *_]:
            roles = option(arguments, "--app-roles").removeprefix("@")
            made = {"id": f"the-{kind}", "name": option(arguments, "--display-name")}
            made |= {"of": option(arguments, "--id"), "redirect": option(arguments, "--web-redirect-uris")}
            made["roles"] = json.loads(Path(roles).read_text(encoding="utf-8")) if roles else []
            directory[kind].append(made)
            found = [made["id"]]
        case ["ad", _, "update", *_]:
            pass
        case _:
            raise SystemExit(f"the stand-in does not know: {arguments}")
    return [[one] for one in found]


def main() -> None:
    """Run the command line."""
    program, *arguments = sys.argv[1:]
    file = Path(os.environ["AZ_STATE"])
    state = json.loads(file.read_text(encoding="utf-8"))
    state["calls"].append(" ".join([program, *arguments]))
    ask = entra if arguments[0] in {"account", "ad", "cloud"} else answer
    for row in ask(state, arguments):
        sys.stdout.write("\t".join(row) + "\n")
    file.write_text(json.dumps(state), encoding="utf-8")


if __name__ == "__main__":
    main()
