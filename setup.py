"""Packages. configs/ and templates/, top-level folders that people edit, are inside petitgen in a wheel; the tables of
tuned choices, which the runtime reads without petitgen, inside runtime."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["petitgen*", "runtime*"]),
        "petitgen._data.configs",
        "petitgen._data.templates",
        "runtime._data.tuned",
    ],
    package_dir={
        "petitgen._data.configs": "configs",
        "petitgen._data.templates": "templates",
        "runtime._data.tuned": "configs/tuned",
    },
)
