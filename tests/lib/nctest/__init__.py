# SPDX-License-Identifier: Apache-2.0
"""The test bed: namespaces as hosts, an emulated link, a guest that verifies itself."""
