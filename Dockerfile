# The demo in a container:  docker build -t unsay . && docker run --rm -v "$PWD/runs:/runs" unsay
FROM python:3.11-slim
WORKDIR /unsay
COPY constraints.txt ./
RUN pip install --no-cache-dir "$(grep '^torch==' constraints.txt)" --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY recipes recipes
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt .
WORKDIR /
ENTRYPOINT ["unsay"]
CMD ["demo", "--out", "/runs/demo"]
