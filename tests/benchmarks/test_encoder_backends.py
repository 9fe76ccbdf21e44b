"""Tables of the encoder backends, on results by hand."""


def row(backend, rate, ratio, threads=1, **agreement):
    return {
        "encoder": "resnet50", "backend": backend, "threads": threads, "tiles_per_second": rate, "ratio": ratio,
        "others": 0.1, **agreement,
    }  # fmt: skip


def test_rates_stand_with_their_ratio_and_the_worst_agreement():
    from encoder_backends import page

    rows = [
        row("torch", 7.5, 1.0),
        row("onnxruntime", 10.4, 1.387, cosine=0.99999995, relative_error=1e-6),
        row("torch", 12.0, 1.0, threads=2),
        row("onnxruntime", 18.0, 1.5, threads=2, cosine=0.9999998, relative_error=4e-6),
    ]
    lines = page(rows).splitlines()
    assert "| resnet50 | 1 | 7.5 |  | 10.4 (1.39) |  | 0.10 |" in lines
    assert "| resnet50 | 2 | 12.0 |  | 18.0 (1.50) |  | 0.10 |" in lines
    assert [line for line in lines if line.startswith("| resnet50 | onnxruntime")] == [
        "| resnet50 | onnxruntime | 0.9999998 | 4.0e-06 |"
    ]


def test_extraction_is_put_beside_pytorch_and_beside_the_encoder_alone():
    from extraction_backends import page

    result = {
        "encoder": "resnet50", "setting": "one thread", "threads": 1, "slides": 2, "tiles": 60, "others": 0.0,
        "torch": {"alone": 8.0, "end_to_end": 7.0}, "onnxruntime": {"alone": 15.0, "end_to_end": 14.0},
    }  # fmt: skip
    assert "| resnet50 | 1 | 2 | 30 | 7.0 | 14.0 | **2.00** | 15.0 | 0.93 | 0.00 |" in page([result])
