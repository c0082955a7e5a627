# shellcheck shell=bash
# The recipe of berth/node:VERSION. Sourced by `build`, with which it shares functions and variables.
#
# It stands on the Python image, whose layers it shares. Node comes from a registry's image, or
# from the npm package that holds the same program: Debian's own Node is too old for most servers.

# shellcheck disable=SC2034,SC2154

# The versions there are, by both ways.
readonly NODE_VERSIONS=(20 22 24)
# The Python image beneath.
readonly NODE_BASE=3.11
# The npm that comes with the program where a registry's image does not bring its own.
readonly NPM_VERSION=10.9.9

# npm's name for this machine's processor.
npm_architecture() {
  case $(uname -m) in
    x86_64) printf x64 ;;
    aarch64) printf arm64 ;;
    *) die "there is no Node package for the processor $(uname -m)." ;;
  esac
}

# Where this machine's npm gets packages from; nothing that could be a credential.
npm_configuration() {
  local file
  for file in /etc/npmrc /usr/local/etc/npmrc "$HOME/.npmrc"; do
    if [[ -r $file ]]; then grep -E '^(@[a-z0-9._-]+:)?registry *=' -- "$file" | grep -v '@.*:.*@' || true; fi
  done
}

# The package sources of the Python image's release, from the mirrors this machine uses for its own;
# nothing where the base is a registry's and has its own.
package_sources() {
  local release=$1
  [[ -n $(docker image ls --quiet "berth-base:python$NODE_BASE") ]] || return 0
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
    awk -v release="$release" '$1 == "Debian" || $1 == "Ubuntu" {
      sub(/^[^-]*/, release, $3); print "deb", $2, $3, ($1 == "Debian" ? "main" : "main universe") }' | sort -u
}

# Puts Node and npm below $1, from npm's packages. $2: the version.
npm_tree() {
  local into=$1 version=$2 package
  need npm=npm
  package="node-linux-$(npm_architecture)@$version"
  mkdir -p -- "$into/packages" "$into/tree/bin" "$into/tree/lib/node_modules/npm"
  run_logged "npm pack $package" npm pack --silent --pack-destination "$into/packages" "$package" "npm@$NPM_VERSION"
  tar -C "$into/tree" --strip-components 1 -xzf "$into"/packages/node-linux-*.tgz package/bin/node
  tar -C "$into/tree/lib/node_modules/npm" --strip-components 1 -xzf "$into/packages/npm-$NPM_VERSION.tgz"
  chmod -R u=rwX,go=rX -- "$into/tree"
  rm -rf -- "$into/packages"
}

node_recipe() {
  { printf '%s\n' "$1" "$NPM_VERSION" "$(image_recipe "berth/python:$NODE_BASE")"
    npm_configuration
    cat -- "$here/node.sh" "$here/Dockerfile.node"; } | sha256sum | cut -c 1-64
}

build_node() {
  local version=$1 refresh=$2 image="berth/node:$1" hash started=$SECONDS node=node-tree
  build_python "$NODE_BASE" "$refresh"
  hash=$(node_recipe "$version")
  if ! $refresh && [[ $(image_recipe "$image") == "$hash" ]]; then
    note "$image is up to date"
    return
  fi
  note "making $image"
  scratch=$(mktemp -d /var/tmp/berth-image.XXXXXX)
  mkdir -p -- "$scratch/tree"
  if pull "node:$version-bookworm-slim"; then
    node="node:$version-bookworm-slim"
  else
    note "no image registry answers: taking Node $version from its npm package"
    npm_tree "$scratch" "$version"
  fi
  cp -- "$here/Dockerfile.node" "$scratch/Dockerfile"
  npm_configuration >"$scratch/npmrc"
  package_sources "$(base_release "berth/python:$NODE_BASE")" >"$scratch/sources.list"
  run_logged "docker build of $image" docker build --tag "$image" --label "berth.recipe=$hash" \
    --label "berth.node=$version" --build-arg "BASE=berth/python:$NODE_BASE" --build-arg "NODE=$node" \
    "${proxy_arguments[@]}" "$scratch"
  rm -rf -- "$scratch"
  scratch=""
  check_node "$image" "$version"
  finish_image "$image" "$started"
}

# The release that an image's packages are of.
base_release() {
  # shellcheck disable=SC2016 # the image's own shell
  docker run --rm --network none "$1" /bin/sh -c '. /etc/os-release; echo "$VERSION_CODENAME"'
}

# The image does what the runner relies on.
check_node() {
  local image=$1 version=$2 seen
  seen=$(docker run --rm --network none --read-only --cap-drop ALL "$image" /usr/local/bin/node -p \
    '[process.versions.node.split(".")[0], process.getuid(), require("fs").readlinkSync("/node_modules")].join(" ")')
  [[ $seen == "$version 10001 /env/node_modules" ]] || die "$image is not as it must be (saw: $seen)."
  docker run --rm --network none --read-only --cap-drop ALL --tmpfs /home/app:uid=10001 --env HOME=/home/app "$image" \
    /usr/local/bin/npm --version >>"$LOG"
  docker run --rm --network none --read-only --cap-drop ALL "$image" /usr/bin/git --version >>"$LOG"
}
