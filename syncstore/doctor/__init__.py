"""What is wrong with a server, found from outside: one module per check, each ending in findings.

Nothing here knows settings files or SQL. `syncstore doctor` hands each check what it needs: addresses, secrets,
a database that was opened. Questions go to the server as those of any client; it needs no door of its own for
them, since the doctor has the secret and can sign whatever a proxy may have made of a request.
"""
