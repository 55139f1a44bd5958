"""From a photo to the integers that are encrypted: image, detector, alignment, embedder, quantiser.

    from veilmatch.client.capture.pipeline import CapturePipeline
    from veilmatch.client.capture.quantiser import quantise

    embedding = CapturePipeline.default().embed_photo("passport.jpg")   # float64[128], unit length
    probe = quantise(embedding, parameters)                             # int64[128], in [-c, c]

Every part is replaceable: a detector and an embedder are anything that satisfies the protocols of
their modules. Importing this package needs numpy only; Pillow and onnxruntime (the `device` extra)
are imported when the first photo is opened or the first model is loaded. Nothing here opens a
network connection or writes to disk.
"""
