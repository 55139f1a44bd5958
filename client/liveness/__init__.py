"""A slot for presentation-attack detection: is there a live face before the camera, or a picture of one?

No detector is shipped, and none is claimed to work: [liveness] of device.toml names one of yours, an ONNX model or a
function. It fails closed. What was asked for and is missing, broken or undecided is an error, never "live".

settings.py describes it, shot.py holds the images of one moment, scorers.py runs models and functions, and check.py
decides. Words are those of ISO/IEC 30107-3.
"""
