import numpy as np
import pytest
import soundfile


@pytest.fixture
def recording(tmp_path):
    """Writes two seconds of noise at 8 kHz below a folder; its samples, as 16-bit integers."""

    def write(file, seed=0, seconds=2.0):
        samples = np.random.default_rng(seed).integers(-9000, 9000, int(8000 * seconds)).astype(np.int16)
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, samples, 8000, subtype="PCM_16")
        return samples

    return write
