// SPDX-License-Identifier: Apache-2.0
import CLinux

/// Whether an interface of this name is in this network namespace.
public func interfaceExists(_ name: String) -> Bool { cl_interface_index(name) > 0 }
