"""An ordinary Kubernetes API server for one host: discovery, CRUD, patches, watches and tables over SQLite.

``python -m labs.api --data DIR`` serves it; :class:`labs.api.testing.EmbeddedApi` starts one for a test.
"""
