#!/usr/bin/env bash
exec fipo launch "$(dirname "${BASH_SOURCE[0]}")/fipo_qwen2.5_32b.toml" "$@"
