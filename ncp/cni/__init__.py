"""The CNI plugin (a thin, fast client) and the server inside ``ncp node`` that does its work."""
