"""Leica SCN files: a scanned area somewhere on a glass slide, which OpenSlide reports as the bounds of the slide."""

import base64

import numpy as np

NM = 1000
_XML = """<?xml version="1.0" encoding="UTF-8"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="{patient}" uuid="urn:uuid:1" sizeX="{glass[0]}" sizeY="{glass[1]}">
<barcode>{barcode}</barcode>
<image name="macro" uuid="urn:uuid:2"><creationDate>{date}</creationDate><device model="Leica SCN400" version="1"/>
<pixels sizeX="256" sizeY="256"><dimension sizeX="256" sizeY="256" r="0" ifd="0"/></pixels>
<view sizeX="{glass[0]}" sizeY="{glass[1]}" offsetX="0" offsetY="0"/>
<scanSettings><objectiveSettings><objective>0.6</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>
<image name="{patient}" uuid="urn:uuid:3"><creationDate>{date}</creationDate><device model="Leica SCN400" version="1"/>
<pixels sizeX="{size[0]}" sizeY="{size[1]}">{dimensions}</pixels>
<view sizeX="{view[0]}" sizeY="{view[1]}" offsetX="{offset[0]}" offsetY="{offset[1]}"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>
</collection></scn>"""


def write_scn(
    path, picture, corner, glass, mpp=0.5, patient="anonymous", date="2011-05-04T10:21:33.000Z", levels=(1, 4)
):
    """Write a slide whose scanned area is a picture.

    Args:
        path: File to write.
        picture: (H, W, 3) uint8.
        corner: (x, y) of the picture's corner on the glass, pixels.
        glass: (width, height) of the glass, pixels.
        mpp: µm per pixel.
        patient: Name that the file's metadata hold, as the barcode too.
        date: Date in the metadata.
        levels: Reductions of the pyramid.
    """
    import tifffile
    from PIL import Image

    height, width = picture.shape[:2]
    sizes = [(width // factor, height // factor) for factor in levels]
    dimensions = "".join(
        f'<dimension sizeX="{w}" sizeY="{h}" r="{i}" ifd="{i + 1}"/>' for i, (w, h) in enumerate(sizes)
    )
    nm = {"glass": glass, "view": (width, height), "offset": corner}
    nm = {name: tuple(round(pixels * mpp * NM) for pixels in pair) for name, pair in nm.items()}
    barcode = base64.b64encode(patient.encode()).decode()
    xml = _XML.format(patient=patient, barcode=barcode, date=date, size=(width, height), dimensions=dimensions, **nm)
    kind = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb", "metadata": None}
    kind |= {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(np.full((256, 256, 3), 200, np.uint8), description=xml.encode(), datetime=None, **kind)
        for size in sizes:
            pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
            tiff.write(pixels, compressionargs={"level": 95}, **kind)
    return path
