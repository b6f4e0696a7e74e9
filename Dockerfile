# Device stage: the base install and onnxruntime. No torch: the third line of RUN refuses an image that has it.
FROM python:3.11-slim AS device
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY edgeprune edgeprune
COPY profiles profiles
RUN pip install --no-cache-dir ".[cpu]"
RUN edgeprune doctor
RUN python -c "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in ('torch', 'transformers', 'onnx', 'scipy')))"
ENTRYPOINT ["edgeprune"]
CMD ["--help"]

# Host stage: everything that compression and export need.
FROM device AS host
RUN pip install --no-cache-dir "torch==2.13.0"
RUN pip install --no-cache-dir ".[cpu,compress]"
RUN edgeprune doctor --families
