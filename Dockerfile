# syntax=docker/dockerfile:1
# The operator's image for those who build with Docker, Podman or in a cluster. `cargo xtask image`
# makes the same without any of them.
#
#   docker build --tag rouse.dev/rouse:v0.1.0 .
#   docker build --tag rouse.dev/hello:v0.1.0 --build-arg PACKAGE=rouse-hello --build-arg PROGRAM=hello .
#   docker build --tag rouse.dev/shim:v0.1.0 --build-arg PACKAGE=rouse-shim --build-arg PROGRAM=rouse-shim \
#     --build-arg PROFILE=small .    (what the images in operator/runtimes are made of)

FROM rust:1.95-bookworm AS build
ARG PACKAGE=rouse
ARG PROGRAM=rouse
ARG PROFILE=dist
WORKDIR /src
COPY . .
# A static program. The target is named so that the flags don't reach build scripts and procedural
# macros, which can't be static; random bytes come from the kernel, since a static program can't
# look the C library's function up. How it is linked is told as in e2e/xtask/src/programs.rs.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" && \
    features= && \
    if [ "$PACKAGE" = rouse ]; then features='--no-default-features --features=cluster'; fi && \
    branches= && \
    if [ "$PROFILE" = dist ]; then \
      gunzip --keep operator/rouse.profdata.gz && \
      branches='-C profile-use=/src/operator/rouse.profdata -C llvm-args=-disable-vp'; \
    fi && \
    link='-C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,-z,keep-text-section-prefix' && \
    RUSTFLAGS="-C target-feature=+crt-static $link --cfg getrandom_backend=\"linux_getrandom\" $branches" \
    cargo build --locked --profile "$PROFILE" --target "$target" --package "$PACKAGE" $features && \
    mkdir -p /image/etc /image/usr/local/bin && \
    mkdir -m 1777 /image/tmp && \
    cp "target/$target/$PROFILE/$PROGRAM" /image/usr/local/bin/ && \
    ln -s "$PROGRAM" /image/usr/local/bin/entry && \
    printf 'root:x:0:0:root:/:/\nrouse:x:65532:65532:rouse:/:/\n' > /image/etc/passwd && \
    printf 'root:x:0:\nrouse:x:65532:\n' > /image/etc/group && \
    printf 'hosts: files dns\n' > /image/etc/nsswitch.conf

FROM scratch
LABEL org.opencontainers.image.title="rouse" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://rouse.dev"
COPY --from=build /image/ /
USER 65532:65532
WORKDIR /
# A link to the program: an entry point can't hold a build argument.
ENTRYPOINT ["/usr/local/bin/entry"]
