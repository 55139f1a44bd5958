"""How good a face in a photo is: components of ISO/IEC 29794-5 on its scale of 0 to 100, and what a person can do.

    from veilmatch.client.capture.quality.assessment import assess

    quality = assess(photo, detector)        # Quality
    quality.scores["sharpness"]              # 0..100
    quality.reasons                          # what is below its floor, and what to do about it

components.py measures the pixels of an aligned face, pose.py where it looks, mesh.py eyes and mouth where that is asked
for, floors.py says what is good enough and assessment.py puts them together. numpy and Pillow, beside the detector;
LiteRT for the mesh alone.
"""
