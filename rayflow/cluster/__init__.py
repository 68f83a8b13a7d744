"""Manifests of a cluster from one sizing: plain dictionaries, written as YAML; no cluster is contacted."""
