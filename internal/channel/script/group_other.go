//go:build !unix

package script

import (
	"errors"
	"os"
	"os/exec"
)

const supported = false

type account struct{}

func lookUp(string) (*account, error) {
	return nil, errors.New("users of scripts are not available on this system")
}

func alone(*exec.Cmd, *account) {}

func killGroup(p *os.Process) error { return p.Kill() }
