package bench

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the process when the benchmark dies
// without having stopped it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
