"""The token server: an account's proof in, a storage token out; users, nodes and who may come in."""
