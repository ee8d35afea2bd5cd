"""ZooKeeper: named clusters, one client per process and cluster, a deadline on every call, watches that are kept."""
