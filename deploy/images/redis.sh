# shellcheck shell=bash
# The recipe of berth/redis:VERSION. Sourced by `build`, with which it shares functions and variables.
#
# Debian's Redis, taken out of the Python image's release: the server and the libraries it is linked
# with, and nothing else. No shell, no tools.

# shellcheck disable=SC2034,SC2154

# The versions there are: the one that the release of the Python image has.
readonly REDIS_VERSIONS=(7)

redis_recipe() {
  { printf '%s\n' "$1" "$(image_recipe "berth/python:$NODE_BASE")"
    cat -- "$here/redis.sh" "$here/Dockerfile.redis"; } | sha256sum | cut -c 1-64
}

build_redis() {
  local version=$1 refresh=$2 image="berth/redis:$1" hash started=$SECONDS
  build_python "$NODE_BASE" "$refresh"
  hash=$(redis_recipe "$version")
  if ! $refresh && [[ $(image_recipe "$image") == "$hash" ]]; then
    note "$image is up to date"
    return
  fi
  note "making $image"
  scratch=$(mktemp -d /var/tmp/berth-image.XXXXXX)
  cp -- "$here/Dockerfile.redis" "$scratch/Dockerfile"
  package_sources "$(base_release "berth/python:$NODE_BASE")" >"$scratch/sources.list"
  run_logged "docker build of $image" docker build --tag "$image" --label "berth.recipe=$hash" \
    --label "berth.redis=$version" --build-arg "BASE=berth/python:$NODE_BASE" "${proxy_arguments[@]}" "$scratch"
  rm -rf -- "$scratch"
  scratch=""
  check_redis "$image" "$version"
  finish_image "$image" "$started"
}

# The image does what the runner relies on.
check_redis() {
  local image=$1 version=$2 seen
  seen=$(docker run --rm --network none --read-only --cap-drop ALL --user 10001:10001 "$image" /usr/bin/redis-server --version)
  [[ $seen == "Redis server v=$version."* ]] || die "$image is not as it must be (saw: $seen)."
}
