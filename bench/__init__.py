"""The benchmark: what each operation of the storage API costs, in CPU time per request.

`python -m bench --help` tells how to run it, README.md how to read what it prints. From the outside in:
`__main__` (command line), `loaded` (servers under load, measured) and `inprocess` (the WSGI app called
directly), `operations` (what is asked), `seeding` (what stands in the store before), `stack` (the servers),
`replay` (wrk), `cpu` (the accounting), `report` (tables and files).
"""
