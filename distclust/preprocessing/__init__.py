"""Preprocessing at any size: scikit-learn's transformers, fitted by passes that merge."""

from distclust.preprocessing.imputer import SimpleImputer
from distclust.preprocessing.normalizer import Normalizer
from distclust.preprocessing.pca import PCA
from distclust.preprocessing.scaling import RobustScaler, StandardScaler

__all__ = ["PCA", "Normalizer", "RobustScaler", "SimpleImputer", "StandardScaler"]
