package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock locks the file for this process, or reports that another has it.
func tryLock(f *os.File) (bool, error) {
	return lockEx(f, windows.LOCKFILE_EXCLUSIVE_LOCK)
}

// tryShare locks the file beside others who share it, or reports that another has
// it for itself.
func tryShare(f *os.File) (bool, error) {
	return lockEx(f, 0)
}

func lockEx(f *os.File, how uint32) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), how|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
