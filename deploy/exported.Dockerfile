# glip serve on processors with an exported model: no torch in the image, a user without rights.
# From the root of the repository, where `glip export --out exported` has written the model:
#
#     docker build -f deploy/exported.Dockerfile -t glip-exported .
#     docker run -p 8000:8000 -e GLIP_API_KEY=... glip-exported

FROM python:3.12-slim AS build
ENV PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/glip
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY glip glip
RUN /opt/glip/bin/pip install 'onnxruntime>=1.24' 'numpy>=1.26' 'pillow>=12.0' 'tokenizers>=0.20' \
        'safetensors>=0.4.3' 'pyyaml>=6.0' \
        'fastapi>=0.115' 'uvicorn>=0.30' 'python-multipart>=0.0.12' 'prometheus-client>=0.20' \
    && /opt/glip/bin/pip install --no-deps . \
    && rm /opt/glip/lib/python3.12/site-packages/glip/weights/*.safetensors

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 glip
COPY --from=build /opt/glip /opt/glip
COPY exported /opt/model
ENV PATH=/opt/glip/bin:$PATH PYTHONUNBUFFERED=1
USER glip
WORKDIR /home/glip
RUN python -c "import glip; glip.load('/opt/model')"
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready')"]
ENTRYPOINT ["glip"]
CMD ["serve", "--host", "0.0.0.0", "--weights", "/opt/model"]
