//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks the file for this process, or reports that another has it.
func tryLock(f *os.File) (bool, error) {
	return flock(f, syscall.LOCK_EX)
}

// tryShare locks the file beside others who share it, or reports that another has
// it for itself.
func tryShare(f *os.File) (bool, error) {
	return flock(f, syscall.LOCK_SH)
}

func flock(f *os.File, how int) (bool, error) {
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
