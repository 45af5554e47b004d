"""Vector search that belongs in Django."""

from pgembedding_django.distributing import DistributeTable, ReferenceTable
from pgembedding_django.fields import BitField, EmbeddingField, HalfVectorField, SparseVectorField
from pgembedding_django.functions import (
    Centroid,
    CosineDistance,
    HammingDistance,
    JaccardDistance,
    L1Distance,
    L2Distance,
    MaxInnerProduct,
)
from pgembedding_django.indexes import HnswIndex, IvfflatIndex
from pgembedding_django.managers import EmbeddingManager
from pgembedding_django.operations import CreateEmbeddingExtension
from pgembedding_django.partitioning import AddPartition, PartitionTable
from pgembedding_django.querysets import EmbeddingQuerySet
from pgembedding_django.search.diversity import diversify
from pgembedding_django.search.models import search_all
from pgembedding_django.search.reranking import arerank, rerank
from pgembedding_django.vectors import SparseVector, Vector

__version__ = "0.2.0"

__all__ = [
    "AddPartition",
    "BitField",
    "Centroid",
    "CosineDistance",
    "CreateEmbeddingExtension",
    "DistributeTable",
    "EmbeddingField",
    "EmbeddingManager",
    "EmbeddingQuerySet",
    "HalfVectorField",
    "HammingDistance",
    "HnswIndex",
    "IvfflatIndex",
    "JaccardDistance",
    "L1Distance",
    "L2Distance",
    "MaxInnerProduct",
    "PartitionTable",
    "ReferenceTable",
    "SparseVector",
    "SparseVectorField",
    "Vector",
    "arerank",
    "diversify",
    "rerank",
    "search_all",
]
