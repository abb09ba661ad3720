# The demo in a container:  docker build -t unsay . && docker run --rm -v "$PWD/runs:/runs" unsay
FROM python:3.11-slim
WORKDIR /unsay
COPY constraints.txt ./
RUN pip install --no-cache-dir "$(grep '^torch==' constraints.txt)" --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY recipes recipes
COPY scripts/build_people.py scripts/build_people.py
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt .
WORKDIR /
ENTRYPOINT ["unsay"]
CMD ["demo", "--out", "/runs/demo"]
