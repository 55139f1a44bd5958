"""A page for a person at a device, on this machine alone: enrol, verify, search, and see what each party sees.

    veilmatch web

guard.py says who is let in, actions.py what the page may ask, look.py what is said of a photo, seen.py what is drawn
of an answer; app.py puts them together, serving.py runs them. Needs the extras `web` and `device`.
"""
