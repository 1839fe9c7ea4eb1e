"""Every error this package raises, in one tree. Nothing else belongs here.

    AnalyticsError
    ├── ConfigurationError        the project is set up wrong; nothing was read or written
    │   ├── ApiConfigError        an entry of the REST API configuration
    │   ├── SettingError          an environment variable or a resource's field
    │   ├── MissingApiKeyError
    │   └── SandboxOverDataError  made-up rows would mix with real ones
    ├── ApiError                  the API did not give what it should; nothing was written
    │   ├── UnreachableError      no connection, or one that broke
    │   ├── TimeLimitError        connect, read or total time limit
    │   ├── StatusError           an HTTP status other than 200
    │   │   └── UnauthorizedError     401 or 403
    │   ├── MalformedBodyError    a 200 that is no page of rows
    │   ├── OversizedBodyError    a body larger than a page can be
    │   ├── RedirectError         a redirect that is not followed
    │   └── IncompleteReadError   pages that do not add up to the whole resource
    ├── ContractError             the rows are not what the columns declare; nothing was written
    │   ├── FieldCollisionError   two fields of the API would share one column
    │   ├── TooManyRejectedError  more rows were rejected than a load may lack
    │   └── ShrunkenError         a full refresh would leave far fewer rows than there are
    ├── RunEndedError             a step of a run that has ended; nothing was written
    └── WarehouseError            existing rows are as they were
        ├── WarehousePathError    the DuckDB file, or the folder or bucket of a lake
        ├── WarehouseConnectionError  no Postgres, no bucket, or not for these credentials
        ├── OverlapError          another run loads the same resource, or did so meanwhile
        ├── WarehouseLockedError
        ├── AlteredTableError     a table that cannot hold what the columns declare
        ├── DiskFullError         no space for the warehouse, or for the rows on their way
        ├── MemoryLimitError      DuckDB needs more memory than a load may take
        └── LoadError             dlt or the database refused the load

A message says what is wrong, with which value, and what to do next. It never holds the key
or a row, and no error keeps the exception of a library as its cause: dlt and Dagster store
whole chains, and the libraries quote URLs, headers and rows.
"""


class AnalyticsError(Exception):
    """Base of every error of this package."""


class ConfigurationError(AnalyticsError):
    """The project is set up wrong; nothing was read or written."""


class ApiConfigError(ConfigurationError):
    """An entry of the REST API configuration cannot be used."""


class SettingError(ConfigurationError):
    """An environment variable or a resource's field has a value that cannot be used."""


class MissingApiKeyError(ConfigurationError):
    """No key was found for the API."""


class SandboxOverDataError(ConfigurationError):
    """The sandbox's made-up rows would be loaded over rows of a real API."""


class ApiError(AnalyticsError):
    """The API did not give what it should.

    `transient` says whether the same request may succeed when it is sent again;
    `retry_after` is the wait in seconds that the API asked for, if it did.
    """

    transient = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnreachableError(ApiError):
    """No connection could be made, or it broke before the answer was complete."""

    transient = True


class TimeLimitError(ApiError):
    """A connect, read or total time limit passed."""

    transient = True


class StatusError(ApiError):
    """The API answered with an HTTP status other than 200."""

    def __init__(
        self, message: str, *, status: int, transient: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.status = status
        self.transient = transient


class UnauthorizedError(StatusError):
    """The API refused the key (401 or 403)."""


class MalformedBodyError(ApiError):
    """A 200 whose body is not the page of rows that the configuration describes."""

    transient = True


class OversizedBodyError(ApiError):
    """A body larger than a page of rows can be."""


class RedirectError(ApiError):
    """A redirect to another host, or one too many: following it could hand out the key."""


class IncompleteReadError(ApiError):
    """The pages of a resource do not add up to the whole of it, also on a second reading."""


class ContractError(AnalyticsError):
    """The rows are not what the columns declare; nothing was written."""


class FieldCollisionError(ContractError):
    """Two fields of the API would be written into one column."""


class TooManyRejectedError(ContractError):
    """More rows broke the contract than a load may lack."""


class ShrunkenError(ContractError):
    """A full refresh would leave far fewer rows than the table has."""


class RunEndedError(AnalyticsError):
    """A step was still to be done, or begun again, when its run had been cancelled or had ended."""


class WarehouseError(AnalyticsError):
    """The warehouse could not be written; rows that were there are as they were."""


class WarehousePathError(WarehouseError):
    """The files cannot be opened or created where the settings say."""


class WarehouseConnectionError(WarehouseError):
    """Postgres or a bucket cannot be reached, refuses the credentials, or there are none."""


class OverlapError(WarehouseError):
    """Another run loads the same resource for longer than the wait allows, or overtook this."""


class WarehouseLockedError(WarehouseError):
    """Another program held the DuckDB file for longer than the wait allows."""


class AlteredTableError(WarehouseError):
    """A table lacks its key, or a column is of another type than the one that is declared now."""


class DiskFullError(WarehouseError):
    """There is no space left for the warehouse, or for the rows on their way there."""


class MemoryLimitError(WarehouseError):
    """DuckDB needs more memory than a load may take."""


class LoadError(WarehouseError):
    """dlt or the database refused the load; the transaction was rolled back."""
