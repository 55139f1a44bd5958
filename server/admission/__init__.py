"""Whether a request is served: who may ask, what it may say, how often, and that it was not served before."""
