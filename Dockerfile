# The whole environment and the workflow: `docker build -t knowcirc .`; for NVIDIA GPUs the torch that brings CUDA:
# `docker build -t knowcirc:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .`
FROM python:3.11-slim

# An index that is asked besides PyPI. Its build 2.13.0+cpu goes before PyPI's 2.13.0, and is a tenth of its size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /workflow

# Apart from the code, so that a change of code does not install everything again.
COPY requirements.txt ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" --requirement requirements.txt

COPY . .
# Whoever it runs as (`--user`) may write beside the workflow and at home, where Snakemake and matplotlib keep caches.
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
    && useradd --create-home --uid 1000 study \
    && mkdir --parents results .snakemake \
    && chmod a+rwx . results .snakemake /home/study

ENV HOME=/home/study
USER 1000

ENTRYPOINT ["snakemake"]
