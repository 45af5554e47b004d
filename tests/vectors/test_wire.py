"""Each encoding reads back bit for bit, and is what the servers send."""

import struct

import numpy as np
import pytest

from pgembedding_django.vectors import to_vector, wire


def random_vectors():
    """Any finite float32, from random bits, with subnormals, both zeros and both ends of the range."""
    bits = np.random.default_rng(7).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    corners = np.array([0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, -3.4028235e38], dtype=np.float32)
    return np.concatenate([bits[np.isfinite(bits)], corners])


def test_encode_text_random_floats_read_back_bit_for_bit():
    vector = random_vectors()
    assert wire.decode_text(wire.encode_text(vector)).tobytes() == vector.tobytes()


def test_encode_array_text_random_floats_read_back_with_subnormals_as_zero():
    vector = random_vectors()
    expected = np.copysign(np.where(np.abs(vector) < 2.0**-126, 0, vector), vector)
    assert wire.decode_text(wire.encode_array_text(vector)).tobytes() == expected.tobytes()


def test_to_vector_encoded_text_gives_the_same_bits():
    vector = random_vectors()
    vector = vector[np.abs(vector) < 1e16]
    assert to_vector(wire.encode_text(vector)).tobytes() == vector.tobytes()


def test_encode_text_is_short():
    assert wire.encode_text(np.array([0.1, -0.0, 3], dtype=np.float32)) == "[0.1,-0.0,3.0]"


def test_encode_array_text_has_braces():
    assert wire.encode_array_text(np.array([0.1, 3], dtype=np.float32)) == "{0.1,3.0}"


def test_encode_text_strided_vector_is_written_in_order():
    assert wire.encode_text(np.array([1, 9, 2], dtype=np.float32)[::2]) == "[1.0,2.0]"


def test_encode_text_foreign_byte_order_is_written_in_numbers():
    assert wire.encode_text(np.array([1, 2], dtype=">f4")) == "[1.0,2.0]"


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_decode_vector_reads_what_vector_send_writes(kind):
    vector = random_vectors()[:16000]
    data = struct.pack(f">hh{vector.size}f", vector.size, 0, *vector.tolist())
    decoded = wire.decode_vector(kind(data))
    assert decoded.dtype == np.float32
    assert decoded.tobytes() == vector.tobytes()


def test_decode_halfvec_reads_what_halfvec_send_writes():
    data = struct.pack(">hh4e", 4, 0, 1.5, -0.0, 65504.0, 6e-8)
    assert wire.decode_halfvec(data).tobytes() == struct.pack("<4f", 1.5, -0.0, 65504.0, 2.0**-24)


def test_decode_array_reads_what_array_send_writes():
    vector = random_vectors()[:1000]
    header = struct.pack(">5i", 1, 0, 700, vector.size, 1)
    elements = b"".join(struct.pack(">if", 4, element) for element in vector.tolist())
    assert wire.decode_array(header + elements).tobytes() == vector.tobytes()


@pytest.mark.parametrize("decode", [wire.decode_vector, wire.decode_halfvec])
def test_decoded_vector_is_writable(decode):
    decoded = decode(struct.pack(">hh2f", 2, 0, 1.0, 2.0))
    decoded[0] = 5
    assert decoded[0] == 5


@pytest.mark.parametrize("text", ["[1,2.5,-3]", "{1,2.5,-3}"])
def test_decode_text_reads_both_brackets(text):
    assert wire.decode_text(text).tolist() == [1.0, 2.5, -3.0]
