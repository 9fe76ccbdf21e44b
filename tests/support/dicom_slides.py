"""DICOM slides: a picture as a whole-slide image of one level, with the header of a real one."""

import io

import numpy as np
from PIL import Image


def write_dicom(path, picture, header, mpp=0.5, patient="DOE^JANE", tile=256):
    """Write a slide.

    Args:
        path: File to write.
        picture: (H, W, 3) uint8.
        header: DICOM slide whose header is used.
        mpp: µm per pixel.
        patient: Patient's name.
        tile: Side of a frame, pixels.
    """
    import pydicom
    from pydicom.encaps import encapsulate

    data = pydicom.dcmread(header)
    height, width = picture.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.full((rows * tile, columns * tile, 3), 255, np.uint8)
    padded[:height, :width] = picture
    frames = []
    for y in range(0, rows * tile, tile):
        for x in range(0, columns * tile, tile):
            buffer = io.BytesIO()
            Image.fromarray(padded[y : y + tile, x : x + tile]).save(buffer, "JPEG", quality=95, subsampling=1)
            frames.append(buffer.getvalue())
    data.PatientName, data.PhotometricInterpretation = patient, "YBR_FULL_422"
    data.Rows = data.Columns = tile
    data.NumberOfFrames = len(frames)
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
    data.ImagedVolumeWidth, data.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
    origin = data.TotalPixelMatrixOriginSequence[0]
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20.5, 40.25
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [mpp / 1000, mpp / 1000]
    data.PixelData = encapsulate(frames)
    data.save_as(path)
    return path
