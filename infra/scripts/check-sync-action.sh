#!/bin/sh
# Before a deployment that may sync: Azure refuses a custom role whose action its provider has not registered.
set -eu

[ "${ROTATION_MODE:-observe}" = enforce ] || exit 0
[ "${SYNC_ROLE:-Exact}" = Exact ] || exit 0

action=Microsoft.ApiManagement/service/refreshHostnames/action
registered=$(az provider operation show --namespace Microsoft.ApiManagement \
    --query "resourceTypes[].operations[].name" --output tsv)
if printf '%s\n' "$registered" | grep -qixF "$action"; then
    echo "Azure knows $action: the role that may sync holds it and nothing else that changes anything."
    exit 0
fi
cat >&2 <<MESSAGE
Azure does not list $action yet, and would refuse a custom role with it.
The next-smallest choice is a custom role with every action of a service except those that Azure lists
(backup, restore, hostnames, SKU, keys and secrets stay forbidden):

    azd env set SYNC_ROLE Wildcard

Nothing was deployed. docs/deploy.md compares the choices.
MESSAGE
exit 1
